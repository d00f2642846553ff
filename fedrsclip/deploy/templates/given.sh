# Values given to this script as NAME=value are kept in @env_file.
for given in "$@@"; do
    name=${given%%=*}
    case $given in *=*) ;; *) name= ;; esac
    case $name in '' | *[!A-Z0-9_]*) known='' ;; *) known=$(grep "^$name=" "$here/@env_file" || true) ;; esac
    if [ -z "$known" ]; then
        echo "$given: give NAME=value, with a name of @env_file" >&2
        exit 2
    fi
    {
        grep -v "^$name=" "$here/@env_file" || true
        printf "%s='%s'\n" "$name" "$(printf %s "${given#*=}" | sed "s/'/'\\\\''/g")"
    } >"$here/@env_file.$$"
    mv "$here/@env_file.$$" "$here/@env_file"
done
