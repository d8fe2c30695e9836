module github.com/muster-dev/muster/test/bench

go 1.26
