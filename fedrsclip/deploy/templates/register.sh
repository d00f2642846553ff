#!/bin/sh
# Registers the clients' public keys; a key that is known already is left as it is.
@header
exec fedrsclip deploy register @superlink keys="$here/keys"
