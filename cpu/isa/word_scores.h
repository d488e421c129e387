// Scores with key codewords in 16-bit integers: half the instructions of the f32 products, for f16
// and bf16 codewords that several slots of a piece refer to. x86-64 with AVX2 or AVX-512.
//
// A codeword becomes round(w * 32700 / e), where e bounds its length within any lane of the
// products; so do the queries of a block. Turning keeps lengths, so neither a turned element nor a
// lane's sum can overflow. A key is turned by rounded 16-bit products.
//
// Error: an element of either side is off by at most 1 unit, 0.3 in the mean, where its largest
// lane is 32700 of them; for vectors of even size that is 2^-15 of an element, an eighth of what
// rounding it to f16 costs, and where one element is large it is less, over the vector's length,
// than the rounding of that one element. Sums of products are exact.
#pragma once

#include <cstdint>

#include "cpu/isa/turned_scores.h"

namespace spindlekv::cpu::SKV_ISA {

struct WordScores {
  int turns, rests;    // vectors of pairs and of what does not turn, 2 kWidth elements each
  int stride;          // elements of a row
  int16_t* words;      // [codewords, stride]
  float* units;        // [codewords] what 1 stands for
  int16_t* angles;     // [64, turns, 2, 2 kWidth]
  int16_t* queries;    // [rows, stride] of the block
  float* query_units;  // [rows]
  int32_t block;       // of `queries`
  bool has_vnni;
};

// Makes the codewords of the run integers. False, and nothing is to be used, where there is no such
// product or the shape, the type or a value does not fit. memory: word_scores_floats.
bool begin_word_scores(const TurnedScores& scores, const void* codewords, int n, float* memory,
                       WordScores* words);

// As score_turned, for slots [from, to) of one block, whose queries have been turned; refs[s] is
// the codeword of slot s.
void score_words(const TurnedScores& scores, WordScores* words, const int32_t* refs,
                 const int32_t* turn, int from, int to, float* out);

}  // namespace spindlekv::cpu::SKV_ISA
