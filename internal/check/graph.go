// SPDX-License-Identifier: Apache-2.0

package check

// graph is a directed graph over small integers that is built once and asked one question: is it acyclic, and if not,
// what is a short cycle. It grows by a slice append per edge because there are about as many edges as records.
type graph struct {
	nodes int
	edges []edge
}

// edge says that from comes before to; rec is the record at which this was seen.
type edge struct{ from, to, rec int32 }

func (g *graph) add(from, to int, rec int32) {
	g.edges = append(g.edges, edge{int32(from), int32(to), rec})
}

// maxCycleStarts bounds the search for the shortest cycle, which is the only part that is not linear.
const maxCycleStarts = 256

// cycle is a shortest cycle among those through the first maxCycleStarts suspicious nodes, as its edges in order; nil
// if the graph is acyclic.
func (g *graph) cycle() []edge {
	// Adjacency in one array (counting sort by from), then Kahn's elimination.
	start := make([]int32, g.nodes+1)
	in := make([]int32, g.nodes)
	for _, e := range g.edges {
		start[e.from+1]++
		in[e.to]++
	}
	for i := range g.nodes {
		start[i+1] += start[i]
	}
	out := make([]int32, len(g.edges)) // indexes of edges
	next := make([]int32, g.nodes)
	copy(next, start[:g.nodes])
	for i, e := range g.edges {
		out[next[e.from]] = int32(i)
		next[e.from]++
	}
	queue := make([]int32, 0, g.nodes)
	for v := range g.nodes {
		if in[v] == 0 {
			queue = append(queue, int32(v))
		}
	}
	for i := 0; i < len(queue); i++ {
		v := queue[i]
		for _, ei := range out[start[v]:start[v+1]] {
			w := g.edges[ei].to
			if in[w]--; in[w] == 0 {
				queue = append(queue, w)
			}
		}
	}
	if len(queue) == g.nodes {
		return nil
	}
	g.trim(in)
	// What is left (in > 0) is cycles and paths between them. Breadth first from each node back to itself.
	var best []edge
	via := make([]int32, g.nodes)
	seen := make([]int32, g.nodes)
	starts := int32(0)
	for v := range g.nodes {
		if in[v] == 0 {
			continue
		}
		if starts++; starts > maxCycleStarts && best != nil {
			break
		}
		queue = append(queue[:0], int32(v))
		found := int32(-1)
		for i := 0; i < len(queue) && found < 0; i++ {
			u := queue[i]
			for _, ei := range out[start[u]:start[u+1]] {
				w := g.edges[ei].to
				if int(w) == v {
					found = ei
					break
				}
				if in[w] > 0 && seen[w] != starts {
					seen[w], via[w] = starts, ei
					queue = append(queue, w)
				}
			}
		}
		if found < 0 {
			continue
		}
		path := []edge{g.edges[found]}
		for int(path[len(path)-1].from) != v {
			path = append(path, g.edges[via[path[len(path)-1].from]])
		}
		if best == nil || len(path) < len(best) {
			best = path
		}
		if len(best) <= 2 {
			break
		}
	}
	for i, j := 0, len(best)-1; i < j; i, j = i+1, j-1 {
		best[i], best[j] = best[j], best[i]
	}
	return best
}

// trim sets in to zero for the nodes from which no cycle can be reached any more, so that the search starts on cycles.
func (g *graph) trim(in []int32) {
	outdeg := make([]int32, g.nodes)
	back := make([][]int32, g.nodes)
	for _, e := range g.edges {
		if in[e.from] > 0 && in[e.to] > 0 {
			outdeg[e.from]++
			back[e.to] = append(back[e.to], e.from)
		}
	}
	var queue []int32
	for v := range g.nodes {
		if in[v] > 0 && outdeg[v] == 0 {
			queue = append(queue, int32(v))
		}
	}
	for len(queue) > 0 {
		v := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		in[v] = 0
		for _, u := range back[v] {
			if outdeg[u]--; outdeg[u] == 0 && in[u] > 0 {
				queue = append(queue, u)
			}
		}
	}
}
