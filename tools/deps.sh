#!/usr/bin/env bash
# Installs what the tests and the demo use besides Go: haproxy. Does nothing
# where it is there; says what is missing where it cannot install it.
set -euo pipefail
command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ] && exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	echo "installing haproxy"
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq && apt-get install -y -qq haproxy >/dev/null && exit 0
fi
echo "haproxy is not installed and could not be: as root, run 'apt-get install haproxy'. What needs it is left out." >&2
