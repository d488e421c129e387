// build_codebook: codebooks of keys or values under a similarity bound. A problem is the keys or
// the values of one KV head; the definition, bit for bit, is in core/ops.h.
//   rows.cuh    units, norms and hashes of the rows      thread = row, block = 64 rows
//   graph.cuh   GRAPH: bits of cosine > theta            block = 64 x 64 pairs
//   cover.cuh   COVER: greedy maximum-degree cover       block = problem
//   refine.cuh  EMIT: k-means under the bound            warp = codeword, block = 64 rows
//   emit.cuh    EMIT: codewords, references              thread = row or element
// A launch serves all problems of a wave: grid y is the problem, and blocks beyond what a problem
// has leave at once. Compute-bound by the graph: n^2 D / 2 fma a problem.
// Source: SpindleKV (arXiv 2507.06517), eq. 8 to 13.
#pragma once

#include "cuda/build_codebook/cover.cuh"
#include "cuda/build_codebook/emit.cuh"
#include "cuda/build_codebook/graph.cuh"
#include "cuda/build_codebook/params.h"
#include "cuda/build_codebook/refine.cuh"
#include "cuda/build_codebook/rows.cuh"
