#!/bin/sh
# Says what is wrong with the site @client, a line each: packages, folders, clock, model, images.
# Run it as the user that runs the other scripts: it writes to the same folder.
@header
export FEDRSCLIP_POLICY="$here/site.yaml"
@checks
@known
exec fedrsclip check @overrides
