#!/bin/sh
# Keeps the clients' public keys registered: those in keys/, and each that is added or changed there.
@header
@registry
exec fedrsclip deploy register keep=true @superlink keys="$here/keys" clients=@clients
