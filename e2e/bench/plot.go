package main

import (
	"fmt"
	"html"
	"io"
)

// The plot has a panel for each cell of each site, and in it a bar for each
// tool, as long as it took.
const (
	plotWidth   = 820
	panelWidth  = 400
	barHeight   = 11
	barStep     = 14
	nameWidth   = 62
	valueWidth  = 118
	panelMargin = 24
)

// plot writes an SVG.
func (r *report) plot(w io.Writer) {
	panels := r.panels()
	fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" font-family="sans-serif" font-size="10">`+"\n", plotWidth, plotHeight(panels))
	fmt.Fprintln(w, `<rect width="100%" height="100%" fill="#fff"/>`)
	y := 8
	for i := 0; i < len(panels); {
		site := panels[i].site
		fmt.Fprintf(w, `<text x="8" y="%d" font-size="14" font-weight="bold">%s</text>`+"\n", y+14, html.EscapeString(site))
		y += 24
		for column, height := 0, 0; i < len(panels) && panels[i].site == site; i++ {
			panels[i].draw(w, 8+column*(panelWidth+8), y)
			height = max(height, panels[i].height())
			if column++; column == 2 || i+1 == len(panels) || panels[i+1].site != site {
				y, column, height = y+height, 0, 0
			}
		}
	}
	fmt.Fprintln(w, `</svg>`)
}

type panel struct {
	site string
	cell cell
	bars []bar
}

type bar struct {
	tool        string
	took, bytes float64
	bad         bool
}

func (p panel) height() int { return panelMargin + len(p.bars)*barStep + 8 }

// panels leaves out the cells that nobody was measured at.
func (r *report) panels() []panel {
	var list []panel
	for _, s := range r.Sites {
		for _, c := range r.cells {
			p := panel{site: s.Name, cell: c}
			for _, t := range r.tools {
				if m, ok := r.results.at(s.Name, t, c); ok && m.Error == "" {
					p.bars = append(p.bars, bar{t, m.durable(), float64(m.bytes()), m.Wrong > 0})
				}
			}
			if len(p.bars) > 0 {
				list = append(list, p)
			}
		}
	}
	return list
}

func plotHeight(panels []panel) int {
	y := 24
	for i := 0; i < len(panels); {
		site := panels[i].site
		y += 24
		for i < len(panels) && panels[i].site == site {
			height := panels[i].height()
			if i++; i < len(panels) && panels[i].site == site {
				height = max(height, panels[i].height())
				i++
			}
			y += height
		}
	}
	return y
}

func (p panel) draw(w io.Writer, x, y int) {
	fmt.Fprintf(w, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", x, y+12, html.EscapeString(string(p.cell)))
	longest := 0.0
	for _, b := range p.bars {
		longest = max(longest, b.took)
	}
	for i, b := range p.bars {
		top := y + panelMargin - 5 + i*barStep
		colour, note := "#9aa5b1", ""
		if b.tool == relmanName {
			colour = "#1769aa"
		}
		if b.bad {
			colour, note = "#c62828", " WRONG"
		}
		length := 1.0
		if longest > 0 {
			length = max(1, b.took/longest*(panelWidth-nameWidth-valueWidth))
		}
		fmt.Fprintf(w, `<text x="%d" y="%d" text-anchor="end">%s</text>`, x+nameWidth-4, top+9, html.EscapeString(b.tool))
		fmt.Fprintf(w, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, x+nameWidth, top, length, barHeight, colour)
		fmt.Fprintf(w, `<text x="%.1f" y="%d">%s s, %.1f MB%s</text>`+"\n", float64(x+nameWidth+4)+length, top+9, seconds(b.took), b.bytes/1e6, note)
	}
}
