# On every machine: watch -config watches.hcl, in this folder.

watch {
  type = "event"
  name = "deploy" # its payload is the version
  args = ["./download"]
}

watch {
  type    = "event"
  name    = "restart"
  args    = ["./restart"]
  timeout = "10m"
}
