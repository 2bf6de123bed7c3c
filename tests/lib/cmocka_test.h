/* SPDX-License-Identifier: Apache-2.0 */
/* cmocka_test.h - cmocka behind the headers that it wants first, in an order that stays. */
#pragma once

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
