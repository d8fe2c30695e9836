package main

// heapFloor is how much the collector takes for in use beyond what is.
const heapFloor = 16 << 20

// calmCollector makes garbage collection rarer while the heap is small: the next one
// is due when the heap is twice what is in use, and a server that keeps 5 MB would
// spend a tenth of its CPU on collecting after each 5 MB. What it returns is to be
// kept alive. It takes address space alone, since nobody ever touches it.
func calmCollector() []byte { return make([]byte, heapFloor) }
