#!/bin/sh
# fedrsclip with the folders, model and device of the site @client, e.g.: ./fedrsclip.sh private list
# Run it as the user that runs start: what the site keeps is that user's alone.
@header
exec fedrsclip "$@@"
