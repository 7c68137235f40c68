/* SPDX-License-Identifier: Apache-2.0 */
static const int y = 3; 
