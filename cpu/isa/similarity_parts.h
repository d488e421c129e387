// The parts of the table in cpu/isa/similarity.h that other sources of the same instruction set
// give.
#pragma once

#include <cstdint>

namespace spindlekv::cpu::SKV_ISA {

// cpu/isa/similarity_rows.cc
void load_rows(int32_t dtype, const void* x, int64_t stride, const int32_t* rows, int64_t count,
               int32_t head_dim, float* out);
void unit_rows(float* rows, int64_t count, int32_t head_dim, bool scale, float* norms);
void round_values(int32_t dtype, float* values, int64_t count);
void store_values(int32_t dtype, const float* values, int64_t count, void* out);
void add_row(float weight, const float* row, int32_t head_dim, float* sum);
void paired_dots(const float* const* a, const float* const* b, int64_t count, int32_t head_dim,
                 float* out);

// cpu/isa/similarity_bits.cc
int32_t common_bits(const uint64_t* a, const uint64_t* b, int64_t words);
void subtract_common(const uint64_t* a, const uint64_t* b, int64_t words, int32_t* degree);
int64_t first_largest(const int32_t* values, int64_t count);

}  // namespace spindlekv::cpu::SKV_ISA
