set -eu
umask 077
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
@given# Environment of this host, filled in by its administrator.
set -a
. "$here/@env_file"
set +a
export FLWR_TELEMETRY_ENABLED=0 FLWR_DISABLE_UPDATE_CHECK=1
export FLWR_HOME="$here/flwr/@process"
export FEDRSCLIP_HOME="${FEDRSCLIP_HOME:-$here/home}"
export PATH="${FEDRSCLIP_BIN:+$FEDRSCLIP_BIN:}$PATH"
# What stays on this machine must not go through an institution's web proxy.
export NO_PROXY="127.0.0.1,localhost${NO_PROXY:+,$NO_PROXY}" no_proxy="127.0.0.1,localhost${no_proxy:+,$no_proxy}"
mkdir -p "$FLWR_HOME"
