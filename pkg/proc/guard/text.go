package guard

// What strings and strconv would give; see the package's comment.

func itoa(n int) string {
	if n < 0 {
		return "-" + itoa(-n)
	}
	digits := []byte{}
	for ; n > 9; n /= 10 {
		digits = append(digits, byte('0'+n%10))
	}
	digits = append(digits, byte('0'+n))
	for i, j := 0, len(digits)-1; i < j; i, j = i+1, j-1 {
		digits[i], digits[j] = digits[j], digits[i]
	}
	return string(digits)
}

func atoi(s string) (n int, ok bool) {
	if len(s) > 1 && s[0] == '-' {
		n, ok = atoi(s[1:])
		return -n, ok && n >= 0
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' || n > (1<<63-1-int(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, s != ""
}

// cut is what stands before the first separator, and what stands behind it.
func cut(s string, separator byte) (head, rest string) {
	for i := range len(s) {
		if s[i] == separator {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func split(s string, separator byte) (parts []string) {
	from := 0
	for i := range len(s) {
		if s[i] == separator {
			parts = append(parts, s[from:i])
			from = i + 1
		}
	}
	return append(parts, s[from:])
}

func oneLine(s string) string {
	line := []byte(s)
	for i, c := range line {
		if c == '\n' {
			line[i] = ' '
		}
	}
	return string(line)
}
