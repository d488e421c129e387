# Compile and link settings shared by every target.

# Results must agree bit for bit between backends wherever they are discrete, so no compiler may
# fuse or reorder float operations: a fused multiply-add is written as one in the source.
set(SKV_FLOAT_FLAGS -ffp-contract=off)

# What a module takes from core/ without using it is left out at link time.
set(SKV_SECTION_FLAGS -ffunction-sections -fdata-sections)

set(SKV_WARNING_FLAGS -Wall -Wextra)
if(SPINDLEKV_WERROR)
  list(APPEND SKV_WARNING_FLAGS -Werror)
endif()

if(NOT CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  message(FATAL_ERROR
    "spindlekv: expected GCC 12+ or Clang 15+ as C++ compiler, got ${CMAKE_CXX_COMPILER_ID}")
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 12)
  message(FATAL_ERROR "spindlekv: expected GCC 12 or newer, got ${CMAKE_CXX_COMPILER_VERSION}")
endif()

if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 sees an overlap inside std::string's own operator+ (GCC bug 105651, mended in 13).
  list(APPEND SKV_WARNING_FLAGS -Wno-restrict)
endif()

# skv_configure(<target>): language level, flags and include root for C++ sources.
function(skv_configure target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES
    CXX_EXTENSIONS OFF
    CXX_VISIBILITY_PRESET hidden
    VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON)
  # Includes are written from the repository root.
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_compile_options(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:${SKV_FLOAT_FLAGS};${SKV_SECTION_FLAGS};${SKV_WARNING_FLAGS}>")
  if(SPINDLEKV_SANITIZE)
    target_compile_options(${target} PRIVATE
      "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${SPINDLEKV_SANITIZE};-fno-sanitize-recover=all;-fno-omit-frame-pointer;-g1>")
  endif()
endfunction()

# skv_link_hidden(<target>): only what is marked for export leaves the module; without
# --exclude-libs hundreds of libstdc++ symbols would.
function(skv_link_hidden target)
  if(NOT APPLE)
    target_link_options(${target} PRIVATE -Wl,--exclude-libs,ALL -Wl,--gc-sections)
  endif()
endfunction()

# skv_add_backend(<name>): lib<name>.so, a module opened at run time. The caller links core in.
function(skv_add_backend name)
  add_library(${name} MODULE)
  skv_configure(${name})
  skv_link_hidden(${name})
  if(SPINDLEKV_SANITIZE)
    target_link_options(${name} PRIVATE -fsanitize=${SPINDLEKV_SANITIZE})
  elseif(NOT APPLE)
    # A missing definition fails here, not when a user's process opens the module.
    target_link_options(${name} PRIVATE -Wl,--no-undefined)
  endif()
endfunction()
