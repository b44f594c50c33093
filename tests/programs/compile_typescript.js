// SPDX-License-Identifier: MIT
//
// compile_typescript.js - TypeScript's compiler compiles immer's three thousand lines, in one turn.
//
//	thaw run compile_typescript.js NODE_MODULES OUTPUT
//
// Real code, written by people who never heard of Thaw: nine megabytes of it. They are parsed, and all that they will ask for
// is read, in turns of their own; then compile() checks types and emits JavaScript and declarations without ever giving the
// loop a chance. OUTPUT gets the emitted files and the diagnostics, one after the other; it must not depend on where the
// program was stopped and continued. The same text runs under node, where the test provides a module "thaw".
import { args, checkpoint, exit, readFile, stats, writeFile } from 'thaw';

const [modules, output] = args;

// Names are virtual: the output says nothing of this machine. The first file is what these sources expect of a host besides
// the language; the second is there for the type checker to find fault with, through all of immer's types.
const texts = new Map([
	['/ambient.d.ts', 'declare const process: { env: Record<string, string | undefined> };\n'],
	['/mistake.ts', "import { produce } from './immer/src/immer';\n" +
		"export const next = produce({ list: [{ done: false }] }, (draft) => { draft.list[0].done = 'yes'; });\n" +
		'export const text: string = next.list[0].done;\n'],
]);
const sources = ['/immer/src/immer.ts', '/immer/src/types/globals.d.ts'];
const inputs = [...texts.keys(), ...sources];
const library = 'lib.es2020.d.ts';

const begun = performance.now();
const report = (event) => {
	const seconds = ((performance.now() - begun) / 1000).toFixed(2);
	console.log(`${event}: ${seconds} s, ${(stats().heapBytes / 1048576).toFixed(0)} MiB`);
};

// The compiler is a CommonJS script. It looks for a host of its own (process, require) and does without.
function loadCompiler(text) {
	const module = { exports: {} };
	new Function('module', 'exports', 'require', text)(module, module.exports, undefined);
	return module.exports;
}

async function add(name, path) {
	const text = await readFile(path, 'utf8').catch(() => undefined);
	if (text === undefined)
		return false;
	texts.set(name, text);
	return true;
}

// A declaration of the language's library, and those that it refers to.
async function addLibrary(name) {
	const path = `/lib/${name}`;
	if (texts.has(path))
		return;
	if (!await add(path, `${modules}/typescript/lib/${name}`))
		throw new Error(`there is no library ${name}`);
	for (const reference of ts.preProcessFile(texts.get(path)).libReferenceDirectives)
		await addLibrary(`lib.${reference.fileName}.d.ts`);
}

// A source file, if there is one of that name, and those that it imports.
async function addSource(name) {
	if (texts.has(name) || !await add(name, `${modules}${name}`))
		return;
	const directory = name.slice(0, name.lastIndexOf('/'));
	for (const { fileName } of ts.preProcessFile(texts.get(name)).importedFiles) {
		if (!fileName.startsWith('.'))
			continue;
		const path = ts.normalizePath(`${directory}/${fileName}`);
		for (const candidate of [`${path}.ts`, `${path}.d.ts`, `${path}/index.ts`])
			await addSource(candidate);
	}
}

function compile() {
	const options = {
		target: ts.ScriptTarget.ES2020,
		lib: [library],
		module: ts.ModuleKind.ESNext,
		moduleResolution: ts.ModuleResolutionKind.Bundler,
		strict: true,
		declaration: true,
		types: [],
		outDir: '/out',
		newLine: ts.NewLineKind.LineFeed,
	};
	const emitted = new Map();
	const host = {
		getSourceFile(name, languageVersion) {
			const text = texts.get(name);
			return text === undefined ? undefined : ts.createSourceFile(name, text, languageVersion);
		},
		getDefaultLibFileName: () => `/lib/${library}`,
		getDefaultLibLocation: () => '/lib',
		getCurrentDirectory: () => '/',
		getCanonicalFileName: (name) => name,
		getNewLine: () => '\n',
		useCaseSensitiveFileNames: () => true,
		fileExists: (name) => texts.has(name),
		readFile: (name) => texts.get(name),
		writeFile: (name, text) => { emitted.set(name, text); },
	};
	const program = ts.createProgram(inputs, options, host);
	const diagnostics = [...ts.getPreEmitDiagnostics(program), ...program.emit().diagnostics];
	return { emitted, diagnostics: ts.formatDiagnostics(diagnostics, host), errors: diagnostics.length };
}

const ts = loadCompiler(await readFile(`${modules}/typescript/lib/typescript.js`, 'utf8'));
await addLibrary(library);
for (const source of sources)
	await addSource(source);
await checkpoint(); // the parser of nine megabytes cannot be stopped in the middle; what it made is safe from here on
report(`loaded typescript ${ts.version} and ${texts.size} files`);

const started = performance.now();
const result = compile();
report(`compiled to ${result.emitted.size} files, ${result.errors} diagnostics, in ` +
	`${((performance.now() - started) / 1000).toFixed(2)} s`);

let listing = '';
for (const [name, text] of result.emitted)
	listing += `==> ${name}\n${text}`;
await writeFile(output, `${listing}==> diagnostics: ${result.errors}\n${result.diagnostics}`);
exit(0);
