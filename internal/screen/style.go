package screen

import "strconv"

// colour is 0 for the default, fromPalette|n for one of 256, or
// direct|0xrrggbb.
type colour uint32

const (
	fromPalette colour = 1 << 24
	direct      colour = 2 << 24
)

// attributes of a character; the lowest three bits are the kind of underline.
type attributes uint16

const (
	underlines attributes = 7
	bold       attributes = 1 << (iota + 2)
	dim
	italic
	blink
	inverse
	hidden
	strike
	overline
)

// style is how a character looks. SGR sets it (ECMA-48, 8.3.117).
type style struct {
	fg, bg, line colour // line is the colour of the underline
	attr         attributes
}

// switches are the attributes, by the number that sets them.
var switches = []struct {
	number int
	attr   attributes
}{{1, bold}, {2, dim}, {3, italic}, {5, blink}, {7, inverse}, {8, hidden}, {9, strike}, {53, overline}}

// append appends the sequence that gives a terminal this style, whichever it has.
func (st style) append(b []byte) []byte {
	b = append(b, "\x1b[0"...)
	for _, sw := range switches {
		if st.attr&sw.attr != 0 {
			b = strconv.AppendInt(append(b, ';'), int64(sw.number), 10)
		}
	}
	switch u := st.attr & underlines; {
	case u == 1:
		b = append(b, ";4"...)
	case u > 1:
		b = append(b, ";4:"...)
		b = append(b, '0'+byte(u))
	}
	b = st.fg.append(b, 38)
	b = st.bg.append(b, 48)
	b = st.line.append(b, 58)
	return append(b, 'm')
}

// append appends a colour as which (38, 48 or 58); nothing for the default.
func (c colour) append(b []byte, which int) []byte {
	n := int64(c & 0xff)
	if c == 0 {
		return b
	}
	b = append(b, ';')
	if c&fromPalette != 0 && which != 58 && n < 16 {
		if n >= 8 {
			n += 60 - 8
		}
		return strconv.AppendInt(b, int64(which-8)+n, 10)
	}
	b = strconv.AppendInt(b, int64(which), 10)
	if c&fromPalette != 0 {
		return strconv.AppendInt(append(b, ";5;"...), n, 10)
	}
	b = append(b, ";2"...)
	for shift := 16; shift >= 0; shift -= 8 {
		b = strconv.AppendInt(append(b, ';'), int64(c>>shift&0xff), 10)
	}
	return b
}

// sgr obeys the numbers of one SGR.
func (st *style) sgr(ps []param) {
	for len(ps) > 0 {
		n := 1 // with those that belong to it
		for n < len(ps) && ps[n].more {
			n++
		}
		own := ps[:n]
		ps = ps[n:]
		switch v := max(own[0].value, 0); v {
		case 38, 48, 58:
			var c colour
			var ok bool
			if n > 1 {
				c, ok = colourOf(own[1:], true)
			} else {
				c, ok = colourOf(ps, false)
				ps = ps[min(colourLength(ps), len(ps)):]
			}
			if ok {
				*st.slot(v) = c
			}
		case 4:
			st.underline(own)
		default:
			st.set(v)
		}
	}
}

func (st *style) slot(v int) *colour {
	switch v {
	case 38:
		return &st.fg
	case 48:
		return &st.bg
	}
	return &st.line
}

func (st *style) underline(own []param) {
	kind := 1
	if len(own) > 1 && own[1].value >= 0 && own[1].value <= 5 {
		kind = own[1].value
	}
	st.attr = st.attr&^underlines | attributes(kind)
}

// colourLength is how many numbers a colour takes that is written with semicolons.
func colourLength(ps []param) int {
	switch {
	case len(ps) == 0:
		return 0
	case ps[0].value == 5:
		return 2
	case ps[0].value == 2:
		return 4
	}
	return 1
}

// colourOf reads `5 n` or `2 r g b`; with colons there may be the number of a
// colour space before the r.
func colourOf(ps []param, colons bool) (colour, bool) {
	at := func(i int) (colour, bool) {
		if i >= len(ps) || ps[i].value > 255 {
			return 0, false
		}
		return colour(max(ps[i].value, 0)), true
	}
	if len(ps) == 0 {
		return 0, false
	}
	if ps[0].value == 5 {
		n, ok := at(1)
		return fromPalette | n, ok
	}
	i := 1
	if colons && len(ps) > 4 {
		i = 2
	}
	r, okR := at(i)
	g, okG := at(i + 1)
	b, okB := at(i + 2)
	return direct | r<<16 | g<<8 | b, ps[0].value == 2 && okR && okG && okB
}

// set obeys one number that stands for itself.
func (st *style) set(v int) {
	for _, sw := range switches {
		if sw.number == v {
			st.attr |= sw.attr
			return
		}
	}
	switch {
	case v == 0:
		*st = style{}
	case v == 6:
		st.attr |= blink
	case v == 21:
		st.attr = st.attr&^underlines | 2
	case v == 22:
		st.attr &^= bold | dim
	case v == 23:
		st.attr &^= italic
	case v == 24:
		st.attr &^= underlines
	case v == 25:
		st.attr &^= blink
	case v == 27:
		st.attr &^= inverse
	case v == 28:
		st.attr &^= hidden
	case v == 29:
		st.attr &^= strike
	case v == 55:
		st.attr &^= overline
	case v == 39:
		st.fg = 0
	case v == 49:
		st.bg = 0
	case v == 59:
		st.line = 0
	case v >= 30 && v <= 37:
		st.fg = fromPalette | colour(v-30)
	case v >= 40 && v <= 47:
		st.bg = fromPalette | colour(v-40)
	case v >= 90 && v <= 97:
		st.fg = fromPalette | colour(v-90+8)
	case v >= 100 && v <= 107:
		st.bg = fromPalette | colour(v-100+8)
	}
}
