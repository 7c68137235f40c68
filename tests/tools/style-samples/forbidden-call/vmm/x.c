/* SPDX-License-Identifier: Apache-2.0 */
int x(const char *s);
int x(const char *s)
{
	return atoi(s); /* exit( here is a comment */
}
