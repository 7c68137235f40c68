/* SPDX-License-Identifier: Apache-2.0 */
#include "api-socket/server.h"
