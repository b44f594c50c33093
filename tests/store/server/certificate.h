/* SPDX-License-Identifier: GPL-2.0-only */
/* certificate.h - with which the store of the tests is 127.0.0.1, to those who are told to trust it; for nothing else. */
#ifndef STORE_SERVER_CERTIFICATE_H
#define STORE_SERVER_CERTIFICATE_H

#define CERTIFICATE                                                          \
	"-----BEGIN CERTIFICATE-----\n"                                      \
	"MIIBgDCCASagAwIBAgIBATAKBggqhkjOPQQDAjAmMSQwIgYDVQQDDBtzdG9yZS1z\n" \
	"ZXJ2ZXIgb2YgVGhhd3MgdGVzdHMwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEw\n" \
	"MDAwMDBaMCYxJDAiBgNVBAMMG3N0b3JlLXNlcnZlciBvZiBUaGF3cyB0ZXN0czBZ\n" \
	"MBMGByqGSM49AgEGCCqGSM49AwEHA0IABLxHdwZur6R242tQMe6i67GqR0oM7XMc\n" \
	"njS23G3pX5PkvkYZ+zGTjuN/ta6vBFhJskgaVLQGlaybMcOPgf/QnSqjQzBBMA8G\n" \
	"A1UdEQQIMAaHBH8AAAEwDwYDVR0TAQH/BAUwAwEB/zAdBgNVHQ4EFgQUuGWQsUxg\n" \
	"5VVnjaA1kOvHKW7Z/B0wCgYIKoZIzj0EAwIDSAAwRQIgX/SxUBSSeSS0Tnpntjfe\n" \
	"ZWWR5Dbc+F88fGELHUJRclICIQCQHuuqK8E6yRqzLIFxyH82zqLKsbWba7lFExk+\n" \
	"QwLpvg==\n"                                                         \
	"-----END CERTIFICATE-----\n"
#define CERTIFICATE_KEY                                                      \
	"-----BEGIN PRIVATE KEY-----\n"                                      \
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgAZq5769vCpZddiG6\n" \
	"FSa0wL1Gp1emc36/NqiNlUNyMoahRANCAAS8R3cGbq+kduNrUDHuouuxqkdKDO1z\n" \
	"HJ40ttxt6V+T5L5GGfsxk47jf7WurwRYSbJIGlS0BpWsmzHDj4H/0J0q\n"         \
	"-----END PRIVATE KEY-----\n"

#endif
