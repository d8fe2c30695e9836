package funcs

import (
	"fmt"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
)

// fragment is the body of a range that gives the same text whenever it is given the
// same things and asks for the same answers. A pass takes its text from the memo
// where nothing of that has changed, so that a template which shows a thousand
// services executes a thousandth of itself when one of them changes.
type fragment struct {
	body *template.Template // named as the whole is: errors read the same
}

const (
	// maxArgs is how many variables from outside a fragment may use.
	maxArgs = 4

	callFragment = "__fragment" // what stands in the template in place of the body
	callArgument = "__argument" // in the body: a variable from outside
)

// unbound are stand-ins that are never called: each pass binds its own.
func unbound() template.FuncMap {
	return template.FuncMap{
		callFragment: func(int, any, ...any) (string, error) { return "", nil },
		callArgument: func(int) any { return nil },
	}
}

// splitter takes fragments out of one template.
type splitter struct {
	t   *Template
	all template.FuncMap
}

// split replaces the outermost bodies that can be fragments. scope are the variables
// that the list can see.
func (s *splitter) split(list *parse.ListNode, scope []string) error {
	if list == nil {
		return nil
	}
	for _, n := range list.Nodes {
		var err error
		switch n := n.(type) {
		case *parse.ActionNode:
			scope = append(slices.Clip(scope), declares(n.Pipe)...)
		case *parse.RangeNode:
			err = s.ranges(n, append(slices.Clip(scope), declares(n.Pipe)...))
		case *parse.IfNode:
			err = s.branches(&n.BranchNode, scope)
		case *parse.WithNode:
			err = s.branches(&n.BranchNode, scope)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *splitter) branches(n *parse.BranchNode, scope []string) error {
	scope = append(slices.Clip(scope), declares(n.Pipe)...)
	if err := s.split(n.List, scope); err != nil {
		return err
	}
	return s.split(n.ElseList, scope)
}

func (s *splitter) ranges(n *parse.RangeNode, scope []string) error {
	names, is := freeOf(n.List, scope)
	if !is {
		return s.branches(&n.BranchNode, scope)
	}
	if err := s.take(n.List, names); err != nil {
		return err
	}
	return s.split(n.ElseList, scope)
}

func declares(p *parse.PipeNode) (names []string) {
	if p != nil && !p.IsAssign {
		for _, d := range p.Decl {
			names = append(names, d.Ident[0])
		}
	}
	return names
}

// take makes a body a fragment and puts its call in the body's place.
func (s *splitter) take(body *parse.ListNode, names []string) error {
	begin, call := "", fmt.Sprintf("{{%s %d .", callFragment, len(s.t.fragments))
	for i, name := range names {
		begin += fmt.Sprintf("{{%s := %s %d}}", name, callArgument, i)
		call += " " + name
	}
	trees, err := parse.Parse("fragment", begin+call+"}}", "", "", unbound())
	if err != nil {
		return fmt.Errorf("fragment of %s: %w", s.t.name, err)
	}
	made := trees["fragment"].Root.Nodes
	root := &parse.ListNode{NodeType: parse.NodeList, Pos: body.Pos, Nodes: append(slices.Clone(made[:len(names)]), body.Nodes...)}
	set, err := template.New(s.t.name).Option(s.t.missing).Funcs(s.all).
		AddParseTree(s.t.name, &parse.Tree{Name: s.t.name, ParseName: s.t.name, Root: root})
	if err != nil {
		return fmt.Errorf("fragment of %s: %w", s.t.name, err)
	}
	s.t.fragments = append(s.t.fragments, &fragment{body: set})
	body.Nodes = made[len(names):]
	return nil
}

// freeOf lists the variables of scope that a body uses, and says whether it can be a
// fragment: it calls only functions of which a memo can tell whether they would
// return the same, leaves alone what is outside, and does not end its range.
func freeOf(body *parse.ListNode, scope []string) (names []string, is bool) {
	v := &visitor{scope: scope}
	v.visit(body)
	return v.free, !v.unfit && v.acts && len(v.free) <= maxArgs
}

// visitor looks at all of a body.
type visitor struct {
	scope    []string
	free     []string // used, and from outside
	declared []string
	unfit    bool
	acts     bool // it is more than fixed text
}

func (v *visitor) visit(node parse.Node) {
	switch n := node.(type) {
	case nil, *parse.TextNode, *parse.CommentNode, *parse.DotNode, *parse.NilNode, *parse.FieldNode,
		*parse.BoolNode, *parse.NumberNode, *parse.StringNode:
	case *parse.ListNode:
		if n != nil {
			for _, each := range n.Nodes {
				v.visit(each)
			}
		}
	case *parse.ActionNode:
		v.acts = true
		v.pipe(n.Pipe)
	case *parse.IfNode:
		v.branch(&n.BranchNode)
	case *parse.WithNode:
		v.branch(&n.BranchNode)
	case *parse.RangeNode:
		v.branch(&n.BranchNode)
	case *parse.PipeNode:
		v.pipe(n)
	case *parse.CommandNode:
		for _, arg := range n.Args {
			v.visit(arg)
		}
	case *parse.ChainNode:
		v.visit(n.Node)
	case *parse.VariableNode:
		v.use(n.Ident[0])
	case *parse.IdentifierNode:
		v.unfit = v.unfit || !repeatable[n.Ident]
	default: // template, break, continue, and what there will be
		v.unfit = true
	}
}

func (v *visitor) branch(n *parse.BranchNode) {
	v.pipe(n.Pipe)
	v.visit(n.List)
	v.visit(n.ElseList)
}

func (v *visitor) pipe(p *parse.PipeNode) {
	if p == nil {
		return
	}
	for _, c := range p.Cmds {
		v.visit(c)
	}
	for _, d := range p.Decl {
		name := d.Ident[0]
		if p.IsAssign {
			v.unfit = v.unfit || !slices.Contains(v.declared, name)
			continue
		}
		v.declared = append(v.declared, name)
		v.unfit = v.unfit || slices.Contains(v.scope, name) // which of the two is meant where?
	}
}

func (v *visitor) use(name string) {
	switch {
	case slices.Contains(v.declared, name) || slices.Contains(v.free, name):
	case slices.Contains(v.scope, name):
		v.free = append(v.free, name)
	default: // $
		v.unfit = true
	}
}

// repeatable are the functions that a fragment may call: those that ask the Source,
// for their answers are on record, and those that depend on their arguments alone.
// Not among them is what reads the clock, the machine or the scratch, rolls dice, or
// does something.
var repeatable = func() map[string]bool {
	set := map[string]bool{}
	for _, name := range strings.Fields(`
		and or not len index slice print printf println html js urlquery eq ne lt le gt ge

		key keyExists keyOrDefault ls safeLs tree safeTree service services node nodes datacenters file

		base64Decode base64Encode base64URLDecode base64URLEncode sha256Hex md5sum hmacSHA256Hex
		byKey byTag byPort byMeta contains containsAll containsAny containsNone containsNotAll in
		explode explodeMap mergeMap mergeMapWithOverride splitToMap
		indent join split trim trimPrefix trimSuffix trimSpace replaceAll regexMatch regexReplaceAll toLower toUpper toTitle
		parseBool parseFloat parseInt parseUint parseJSON parseYAML
		toJSON toJSONPretty toUnescapedJSON toUnescapedJSONPretty toYAML toTOML
		add subtract multiply divide modulo minimum maximum loop

		default empty coalesce ternary quote squote cat replace nindent trunc upper lower title untitle
		hasPrefix hasSuffix trimAll repeat substr nospace initials snakecase camelcase kebabcase
		first last rest initial has without uniq compact list dict get hasKey pluck keys values sortAlpha until untilStep
		toString toStrings int int64 float64 atoi add1 sub mul div mod max min ceil floor round
		b64enc b64dec sha1sum sha256sum`) {
		set[name] = true
	}
	return set
}()
