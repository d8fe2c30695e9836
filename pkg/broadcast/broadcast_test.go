package broadcast

import (
	"testing"
	"testing/synctest"
)

func TestSignal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Signal
		s.Notify() // nobody waits
		first := s.Changed()
		woken := make(chan int, 3)
		for i := range 3 {
			ch := s.Changed()
			go func() { <-ch; woken <- i }()
		}
		synctest.Wait()
		select {
		case <-first:
			t.Fatal("the channel is closed before Notify")
		default:
		}
		s.Notify()
		synctest.Wait()
		if len(woken) != 3 {
			t.Errorf("%d of 3 waiters woke", len(woken))
		}
		select {
		case <-s.Changed():
			t.Error("a channel that was taken after Notify is closed")
		default:
		}
	})
}
