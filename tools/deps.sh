#!/usr/bin/env bash
# Installs what the tests and the demo use besides Go: haproxy, memcached. Does
# nothing where they are there; says what is missing where it cannot install it.
set -euo pipefail
PATH=$PATH:/usr/sbin
missing=()
for name in haproxy memcached; do
	command -v "$name" >/dev/null || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
	echo "installing ${missing[*]}"
	export DEBIAN_FRONTEND=noninteractive
	# In that run level no daemon is started: the tests start their own.
	apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq "${missing[@]}" >/dev/null && exit 0
fi
echo "${missing[*]} not installed and could not be: as root, run 'apt-get install ${missing[*]}'. What needs it is left out." >&2
