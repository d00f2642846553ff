#!/bin/sh
# Shows every message that the site @client has answered, and whether anybody has changed that list.
@header
exec fedrsclip site log
