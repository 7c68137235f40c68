/* SPDX-License-Identifier: Apache-2.0 */
/* reset_during_io with the engine Async. `engine: Async` */
#include "../reset_during_io/guest.c"
