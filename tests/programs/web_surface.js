// The interfaces of the web that programs have (tests/js/web_surface.c): what each does is compared with the comment at the end.
import { readFile, writeFile, readdir, stat, lstat, mkdir, rm, rename, copyFile, realpath, readlink, symlink, args, stdin } from 'thaw'

const say = (what, ...values) => console.log(what + ':', ...values)
const hex = (bytes) => new Uint8Array(bytes).toHex()
const bytes = (text) => new TextEncoder().encode(text)
const collect = async (stream) => { const all = []; for await (const chunk of stream) all.push(chunk); return all }
const named = (promise) => promise.then(() => 'fulfilled', (error) => error.name + (error.code ? ' ' + error.code : ''))

// ---- URL
const url = new URL('../x y?q=1&q=2#h', 'https://user@exämple.com:443/a/b')
say('url', url.href, url.origin, url.searchParams.getAll('q').join())
url.searchParams.append('ü', '&')
say('url', url.search, URL.canParse('nope'), new URL('http://xn--fsq.com').host, new URL('http://0x7f.1').host)

// ---- Events
const target = new EventTarget()
const heard = []
target.addEventListener('x', (event) => heard.push('once'), { once: true })
target.addEventListener('x', { handleEvent(event) { heard.push(event.eventPhase + ' ' + (event.currentTarget === target)) } })
target.addEventListener('x', (event) => event.preventDefault(), { passive: true })
say('events', target.dispatchEvent(new Event('x', { cancelable: true })), target.dispatchEvent(new CustomEvent('x', { detail: 5 })), heard.join())
const controller = new AbortController()
const any = AbortSignal.any([controller.signal, AbortSignal.timeout(1e9)])
any.addEventListener('abort', () => heard.push('any'))
target.addEventListener('y', () => heard.push('never'), { signal: any })
controller.abort(new Error('enough'))
target.dispatchEvent(new Event('y'))
say('abort', any.aborted, any.reason.message, heard.at(-1), (() => { try { any.throwIfAborted() } catch (error) { return error.message } })())
await new Promise((resolve) => { AbortSignal.timeout(1).onabort = resolve; setTimeout(() => {}, 1000) })
addEventListener('error', (event) => { say('error', event.message); event.preventDefault() })
addEventListener('unhandledrejection', (event) => { say('rejection', event.reason); event.preventDefault() })
reportError(new Error('reported'))
target.addEventListener('z', () => { throw new Error('from a listener') })
target.dispatchEvent(new Event('z'))
Promise.reject('nobody')
await new Promise((resolve) => setTimeout(resolve))

// ---- Messages
const { port1, port2 } = new MessageChannel()
const third = new MessageChannel()
port2.onmessage = ({ data, ports }) => { say('message', data.n, ports.length); ports[0].postMessage('through'); port2.close() }
third.port2.onmessage = ({ data }) => say('message', data)
port1.postMessage({ n: 1n }, [third.port1])
await new Promise((resolve) => { port1.onclose = resolve })
say('cloned', await structuredClone(new Blob(['b'])).text(), (() => { try { structuredClone(target) } catch (error) { return error.name } })())

// ---- Blobs, streams, compression, encodings
const blob = new Blob(['a\r\n', bytes('ü'), new Blob(['c'])], { type: 'Text/X', endings: 'native' })
say('blob', blob.size, blob.type, JSON.stringify(await blob.text()), await blob.slice(-2, -1).text(), new File([], 'n').name)
const upper = new TransformStream({ transform(chunk, out) { out.enqueue(chunk.toUpperCase()) } })
say('streams', (await collect(blob.stream().pipeThrough(new TextDecoderStream()).pipeThrough(upper))).join(''),
	(await collect(ReadableStream.from(['\ud83d', '\ude00']).pipeThrough(new TextEncoderStream()))).map(hex).join())
for (const format of ['gzip', 'deflate', 'deflate-raw']) {
	const packed = new Blob(await collect(new Blob(['x'.repeat(100000)]).stream().pipeThrough(new CompressionStream(format))))
	const back = new Blob(await collect(packed.stream().pipeThrough(new DecompressionStream(format))))
	say(format, packed.size < 1000, back.size, await named(collect(packed.slice(0, -3).stream().pipeThrough(new DecompressionStream(format)))))
}
say('encodings', ['shift_jis', 'euc-kr', 'big5', 'gb18030', 'windows-1251', 'utf-16be', 'latin1'].map((label) =>
	new TextDecoder(label).encoding + ' ' + new TextDecoder(label).decode(new Uint8Array([0xb0, 0xa1]))).join(', '))
const pieces = new TextDecoder('shift_jis')
say('encodings', pieces.decode(new Uint8Array([0x82]), { stream: true }) + pieces.decode(new Uint8Array([0xa0])))

// ---- performance and navigator
performance.mark('m', { startTime: 5, detail: { d: 1 } })
say('performance', performance.measure('n', { start: 'm', duration: 3 }).startTime, performance.getEntriesByType('mark')[0].detail.d)
say('time', Math.abs(performance.timeOrigin - Date.now()) < 100000, performance.now() < 100000)
say('navigator', navigator.userAgent.slice(0, 5), navigator.hardwareConcurrency > 0)

// ---- crypto.subtle: published vectors, and round trips
const { subtle } = crypto
const raw = (data, name, usages) => subtle.importKey('raw', data, name, true, usages)
say('digest', hex(await subtle.digest('sha-256', bytes('abc'))).slice(0, 16), hex(await subtle.digest('SHA-512', bytes(''))).slice(0, 16))
say('hmac', hex(await subtle.sign('HMAC', await raw(bytes('key'), { name: 'HMAC', hash: 'SHA-1' }, ['sign']), bytes('The quick brown fox jumps over the lazy dog'))))
say('hkdf', hex(await subtle.deriveBits({ name: 'HKDF', hash: 'SHA-256', salt: Uint8Array.fromHex('000102030405060708090a0b0c'), info: Uint8Array.fromHex('f0f1f2f3f4f5f6f7f8f9') },
	await subtle.importKey('raw', new Uint8Array(22).fill(11), 'HKDF', false, ['deriveBits']), 128)))
say('pbkdf2', hex(await subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-1', salt: bytes('salt'), iterations: 2 },
	await subtle.importKey('raw', bytes('password'), 'PBKDF2', false, ['deriveBits']), 160)))
const gcm = { name: 'AES-GCM', iv: new Uint8Array(12) }
const sealed = await subtle.encrypt(gcm, await raw(new Uint8Array(16), 'AES-GCM', ['encrypt']), new Uint8Array(16))
say('gcm', hex(sealed))
new Uint8Array(sealed)[0] ^= 1
say('gcm', await named(subtle.decrypt(gcm, await raw(new Uint8Array(16), 'AES-GCM', ['decrypt']), sealed)))
const seed = Uint8Array.fromHex('9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60')
const edwards = await subtle.importKey('jwk', { kty: 'OKP', crv: 'Ed25519', d: seed.toBase64({ alphabet: 'base64url', omitPadding: true }),
	x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' }, 'Ed25519', true, ['sign'])
say('ed25519', hex(await subtle.sign('Ed25519', edwards, new Uint8Array(0))).slice(0, 32))
for (const [algorithm, options] of [[{ name: 'ECDSA', namedCurve: 'P-256' }, { hash: 'SHA-256' }], [{ name: 'Ed25519' }, {}],
	[{ name: 'RSA-PSS', modulusLength: 1024, publicExponent: new Uint8Array([1, 0, 1]), hash: 'SHA-256' }, { saltLength: 20 }]]) {
	const { privateKey, publicKey } = await subtle.generateKey(algorithm, false, ['sign', 'verify'])
	const how = { ...algorithm, ...options }
	const signature = await subtle.sign(how, privateKey, bytes('data'))
	const again = await subtle.importKey('jwk', await subtle.exportKey('jwk', publicKey), algorithm, true, ['verify'])
	say(algorithm.name, await subtle.verify(how, again, signature, bytes('data')), await subtle.verify(how, again, signature, bytes('date')),
		await named(subtle.exportKey('pkcs8', privateKey)))
}

// ---- Files and directories
const place = args[0] + '/made'
await mkdir(place + '/a/b', { recursive: true })
await writeFile(place + '/a/file', 'contents')
await copyFile(place + '/a/file', place + '/copy')
await rename(place + '/copy', place + '/renamed')
await symlink('renamed', place + '/link')
say('files', (await readdir(place)).sort().join(), (await readdir(place, { withFileTypes: true })).filter((entry) => entry.isDirectory()).length)
say('files', (await stat(place + '/link')).size, (await lstat(place + '/link')).isSymbolicLink(), await readlink(place + '/link'),
	(await realpath(place + '/link')).endsWith('/made/renamed'), (await readFile(place + '/renamed', 'utf8')))
say('files', await named(mkdir(place)), await named(rm(place)), await named(stat(place + '/none')), await named(rm(place + '/none', { force: true })))
say('files', await rm(place, { recursive: true }), await named(readdir(place)))

// ---- Standard input
const lines = []
for await (const line of stdin.lines()) lines.push(line)
say('input', lines.join('|'))

/* expected
url: https://user@xn--exmple-cua.com/x%20y?q=1&q=2#h https://xn--exmple-cua.com 1,2
url: ?q=1&q=2&%C3%BC=%26 false xn--fsq.com 127.0.0.1
events: true true once,2 true,2 true
abort: true enough any enough
error: reported
error: from a listener
rejection: nobody
message: 1n 1
message: through
cloned: b DataCloneError
blob: 5 text/x "a\nüc" � n
streams: A
ÜC f09f9880
gzip: true 100000 TypeError
deflate: true 100000 TypeError
deflate-raw: true 100000 TypeError
encodings: shift_jis ｰ｡, euc-kr 가, big5 陛, gb18030 啊, windows-1251 °Ў, utf-16be 낡, windows-1252 °¡
encodings: あ
performance: 5 1
time: true true
navigator: Thaw/ true
digest: ba7816bf8f01cfea cf83e1357eefb8bd
hmac: de7c9b85b8b78aa6bc8a7a36f70a90701c9db4d9
hkdf: 3cb25f25faacd57a90434f64d0362f2a
pbkdf2: ea6c014dc72d6f8ccd1ed92ace1d41f0d8de8957
gcm: 0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf
gcm: OperationError
ed25519: e5564300c360ac729086e2cc806e828a
ECDSA: true false InvalidAccessError 15
Ed25519: true false InvalidAccessError 15
RSA-PSS: true false InvalidAccessError 15
files: a,link,renamed 1
files: 8 true renamed true contents
files: Error EEXIST Error EISDIR Error ENOENT fulfilled
files: undefined Error ENOENT
input: one|zwei|last
*/
