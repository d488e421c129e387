/* The native interface of spindlekv for C and C++ programs: include this one header.
 * Open a backend library with dlopen, look up SKV_BACKEND_SYMBOL, check abi_version, use the table.
 */
#ifndef SPINDLEKV_H_
#define SPINDLEKV_H_

#include "../backend.h"
#include "../ops.h"
#include "../types.h"

#endif /* SPINDLEKV_H_ */
