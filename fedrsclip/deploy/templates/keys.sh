#!/bin/sh
# Keeps the clients' public keys registered: those in keys/, and each that is added or changed there.
# A client whose key is taken away from there is shut out.
@header
@registry
exec fedrsclip deploy register keep=true @superlink keys="$here/keys" clients=@clients \
    database="$here/state/superlink.db"
