#!/usr/bin/env bash
# Fetches what the tests and the demo use besides Go, where it can: haproxy and memcached,
# which are installed, and consul, which is only unpacked, into bin/peers. Says what is missing;
# what needs it is left out then.
set -euo pipefail
PATH=$PATH:/usr/sbin
cd "$(dirname "$0")/.."

can_install() { command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; }

packages() {
	local missing=()
	for name in haproxy memcached; do
		command -v "$name" >/dev/null || missing+=("$name")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	if can_install; then
		echo "installing ${missing[*]}"
		export DEBIAN_FRONTEND=noninteractive
		# In that run level no daemon is started: the tests start their own.
		apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq "${missing[@]}" >/dev/null && return
	fi
	echo "${missing[*]} not installed and could not be: as root, run 'apt-get install ${missing[*]}'. What needs it is left out." >&2
}

# The last release of Debian that carries consul is older than this machine's, so its
# list is kept beside, on the same mirror.
consul() {
	[ -n "${MUSTER_TEST_CONSUL:-}" ] || [ -x bin/peers/usr/bin/consul ] && return
	can_install && unpack_consul && return
	echo "no consul to test beside: MUSTER_TEST_CONSUL names one. What needs it is left out." >&2
}

unpack_consul() (
	mirror=$(grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list* 2>/dev/null | sed -n '1s/ *$//p')
	[ -n "$mirror" ] || return 1
	echo "fetching consul"
	mkdir -p bin/peers/lists/partial && cd bin/peers || return 1
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bullseye main" >list
	from=(-oDir::Etc::SourceList="$PWD/list" -oDir::Etc::SourceParts=/dev/null -oDir::State::Lists="$PWD/lists"
		-oAPT::Sandbox::User=root -oAcquire::Retries=1 -oAcquire::http::Timeout=20 -oAcquire::https::Timeout=20)
	apt-get "${from[@]}" update >/dev/null 2>&1 && apt-get "${from[@]}" download consul >/dev/null 2>&1 || return 1
	dpkg -x consul_*.deb . && rm -rf list lists consul_*.deb
)

packages
consul
