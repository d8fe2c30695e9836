package agent

import "sync"

// phase says how far the start has come to those who may call at any time: the
// parts of an agent are made while it starts, and are nil before. Whoever was told
// by it that the agent runs sees them all.
//
//	          begin                 leave
//	starting -------> running          (the parts leave)
//	    |
//	    | leave
//	    v
//	  given up        begin says so: the start ends here
//
// A reload that comes while the agent starts is done when it runs: the files may
// have been read before they changed.
type phase struct {
	sync.Mutex // held during a reload, so that there is one at a time
	running    bool
	givenUp    bool
	reload     bool // asked for while starting
}

// begin says that every part is made; false if the agent is not to go on.
func (p *phase) begin() bool {
	p.Lock()
	defer p.Unlock()
	p.running = !p.givenUp
	return p.running
}

// leave says whether there is something that can leave; if not, begin will fail.
func (p *phase) leave() bool {
	p.Lock()
	defer p.Unlock()
	p.givenUp = !p.running
	return p.running
}
