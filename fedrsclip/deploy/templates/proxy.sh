#!/bin/sh
# The proxy in front of the SuperLink: the only port that other hosts reach.
@header
export PATH="$PATH:/usr/sbin:/usr/local/sbin"
exec nginx -e stderr -p "$here/proxy" -c nginx.conf
