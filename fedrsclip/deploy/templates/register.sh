#!/bin/sh
# Registers the clients' public keys, and writes down which node is which client; `start` does it, too.
# A key that is known already is left as it is.
@header
@registry
exec fedrsclip deploy register @superlink keys="$here/keys" clients=@clients
