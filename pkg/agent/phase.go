package agent

import "sync"

// phase says whether an agent is still starting. The parts of an agent are nil until
// they are made, so methods that may be called at any time ask phase first. After begin
// every part is set and visible to all goroutines.
//
//	          begin                 leave
//	starting -------> running          (leaves the cluster)
//	    |
//	    | leave
//	    v
//	  canceled        begin returns false: the start ends
//
// A reload during the start is done after it, because the files may have changed after
// they were read.
type phase struct {
	sync.Mutex // held during a reload, so that there is one at a time
	running    bool
	canceled   bool
	reload     bool // asked for while starting
}

// begin is called when every part is made. False means that the agent must stop.
func (p *phase) begin() bool {
	p.Lock()
	defer p.Unlock()
	p.running = !p.canceled
	return p.running
}

// leave says whether the agent runs and can leave. If not, begin will return false.
func (p *phase) leave() bool {
	p.Lock()
	defer p.Unlock()
	p.canceled = !p.running
	return p.running
}
