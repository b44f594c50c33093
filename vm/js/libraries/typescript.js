// SPDX-License-Identifier: MIT
//
// typescript.js - strip(code): JavaScript out of TypeScript whose types can be erased, for modules/typescript.c, which runs it in an
// engine of its own.
//
// The library sucrase says what each token is, and writes JavaScript; but it keeps lines only. So its text is compared with the
// source token by token: what it left out becomes blanks, and all else stays at its line and column. Where it had to write
// something new (enum, namespace, parameter properties) the source is refused. No name that is imported is left out because it
// is not used: as in node, types are imported with `import type`.
import { parse } from 'sucrase/dist/esm/parser/index.js';
import { ContextualKeyword } from 'sucrase/dist/esm/parser/tokenizer/keywords.js';
import { TokenType as tt } from 'sucrase/dist/esm/parser/tokenizer/types.js';
import { HelperManager } from 'sucrase/dist/esm/HelperManager.js';
import NameManager from 'sucrase/dist/esm/NameManager.js';
import RootTransformer from 'sucrase/dist/esm/transformers/RootTransformer.js';
import TokenProcessor from 'sucrase/dist/esm/TokenProcessor.js';

const options = { transforms: ['typescript'], disableESTransforms: true, keepUnusedImports: true };
const modifiers = new Set([tt._public, tt._private, tt._protected, tt._readonly, tt._override]);
const makesValue = new Set([tt._var, tt._let, tt._const, tt._function, tt._class, tt._enum]);

class Refused extends Error {
	constructor(position, message) {
		super(message);
		this.position = position;
	}
}

const notErased = (token, what) => new Refused(token.start, `${what} cannot be erased: it is no type`);

// Does a namespace at this token, which no `declare` is before, have anything at run time?
function isNamespaceOfValues(tokens, at) {
	const keyword = tokens[at].contextualKeyword;
	if ((keyword !== ContextualKeyword._namespace && keyword !== ContextualKeyword._module) || !tokens[at].isType)
		return false;
	const before = tokens[at - 1], exported = before !== undefined && before.type === tt._export;
	const first = exported ? tokens[at - 2] : before;
	if ((first !== undefined && first.isType && first.type !== tt.semi && first.type !== tt.braceR) ||
	    tokens[at + 1] === undefined || tokens[at + 1].type !== tt.name)
		return false;
	let depth = 0;
	for (let i = at + 2; i < tokens.length && tokens[i].isType; i++) {
		if (tokens[i].type === tt.braceL)
			depth++;
		else if (tokens[i].type === tt.braceR && --depth === 0)
			return false;
		else if (makesValue.has(tokens[i].type) && tokens[i - 1].contextualKeyword !== ContextualKeyword._declare)
			return true;
	}
	return false;
}

// What has a meaning at run time, or needs another engine, by its name.
function refuse(tokens) {
	tokens.forEach((token, i) => {
		const next = tokens[i + 1], before = tokens[i - 1];
		if (isNamespaceOfValues(tokens, i))
			throw notErased(token, 'a namespace');
		if (token.isType)
			return;
		if (token.type === tt._enum)
			throw notErased(token, 'an enum');
		if (modifiers.has(token.type) && (before?.type === tt.parenL || before?.type === tt.comma))
			throw notErased(token, 'a parameter property');
		if (token.type === tt._import && next?.type === tt.name && tokens[i + 2]?.type === tt.eq)
			throw notErased(token, 'import ... =');
		if (token.type === tt._export && next?.type === tt.eq)
			throw notErased(token, 'export =');
		if (token.type === tt.at)
			throw new Refused(token.start, 'decorators are not there, nor can they be erased');
	});
}

const withoutSpace = (text) => text.replace(/\s+/g, '');
const blank = (text) => text.replace(/[^\r\n\u2028\u2029]/g, ' ');
const hasLineEnd = (text) => /[\r\n\u2028\u2029]/.test(text);

// Which tokens stay; `moved` gets brackets that have to stand elsewhere, [position, text].
function tokensThatStay(code, tokens, result, moved) {
	const { code: written, mappings } = result;
	const stays = tokens.map(() => false);
	const between = (i) => withoutSpace(code.slice(i > 0 ? tokens[i - 1].end : 0, i < tokens.length ? tokens[i].start : code.length));
	const check = (text, next) => {
		const rest = text === '' || text === ' ' ? '' : withoutSpace(text);
		if (rest !== '' && rest !== between(next))
			throw new Refused(tokens[Math.min(next, tokens.length - 1)]?.start ?? 0, 'this cannot be erased');
	};
	let last = -1;
	for (let i = 0; i <= tokens.length; i++) {
		if (i < tokens.length && mappings[i] === undefined)
			continue;
		const until = i < tokens.length ? mappings[i] : written.length;
		if (last < 0) {
			check(written.slice(0, until), i);
		} else {
			const text = code.slice(tokens[last].start, tokens[last].end);
			const chunk = written.slice(mappings[last], until);
			let used = 0;
			if (text === '=>' && chunk.startsWith(') =>')) {
				// The type of what it returns was before it: its bracket must stand in the arrow's line.
				let bracket = last - 1;
				while (tokens[bracket].isType)
					bracket--;
				stays[last] = true;
				if (hasLineEnd(code.slice(tokens[bracket].end, tokens[last].start)))
					moved.push([tokens[last].start - 1, ')']);
				else
					stays[bracket] = true;
				used = 4;
			} else if (text === 'async' && chunk.startsWith('async (')) {
				let bracket = last + 1;
				while (tokens[bracket].isType)
					bracket++;
				stays[last] = true;
				if (hasLineEnd(code.slice(tokens[last].end, tokens[bracket].start)))
					moved.push([tokens[last + 1].start, '(']);
				else
					stays[bracket] = true;
				used = 7;
			} else if (chunk.startsWith(text)) {
				stays[last] = true;
				used = text.length;
			}
			check(chunk.slice(used), i);
		}
		last = i;
	}
	return stays;
}

const declares = new Set(['type', 'interface', 'declare', 'abstract', 'import', 'export', 'function', 'namespace', 'module']);
const modifies = new Set(['public', 'private', 'protected', 'readonly', 'override']);
const goesOn = new Set(['(', '[', '`', '+', '-', '*', '/', '++', '--', '<']);

// Where a declaration in a line of its own is left out, the lines around it must not become one statement.
function endStatements(code, tokens, stays, moved) {
	for (let i = 1; i < tokens.length; i++) {
		if (stays[i] || !stays[i - 1])
			continue;
		const word = code.slice(tokens[i].start, tokens[i].end);
		let next = i;
		while (next < tokens.length && !stays[next])
			next++;
		const first = next < tokens.length ? code.slice(tokens[next].start, tokens[next].end) : '';
		if (word === 'as' || word === 'satisfies') { // nothing is called, nor indexed, behind a type
			if ((first === '(' || first === '[' || first === '`') &&
			    hasLineEnd(code.slice(tokens[next - 1].end, tokens[next].start)))
				moved.push([tokens[i].start, ';']);
			continue;
		}
		if (!(declares.has(word) || modifies.has(word)) || !hasLineEnd(code.slice(tokens[i - 1].end, tokens[i].start)))
			continue;
		if (goesOn.has(first) || first[0] === '`' || first[0] === '/')
			moved.push([tokens[i].start, ';']);
	}
}

function erase(code) {
	const { tokens } = parse(code, false, true, false);
	refuse(tokens);
	const names = new NameManager(code, tokens), helpers = new HelperManager(names);
	const processor = new TokenProcessor(code, tokens, false, true, helpers);
	const context = { tokenProcessor: processor, scopes: [], nameManager: names, importProcessor: null, helperManager: helpers };
	const result = new RootTransformer(context, options.transforms, false, options).transform();
	const moved = [], stays = tokensThatStay(code, tokens, result, moved);
	endStatements(code, tokens, stays, moved);
	const parts = [];
	let at = 0;
	tokens.forEach((token, i) => {
		const text = code.slice(token.start, token.end);
		parts.push(code.slice(at, token.start), stays[i] ? text : blank(text));
		at = token.end;
	});
	parts.push(code.slice(at));
	let text = parts.join('');
	for (const [position, bracket] of moved)
		text = text.slice(0, position) + bracket + text.slice(position + 1);
	return text;
}

// An array: [text], or [message, line, column].
export function strip(code) {
	try {
		return [erase(code)];
	} catch (error) {
		if (error instanceof Refused) {
			const lines = code.slice(0, error.position).split(/\r\n|[\r\n\u2028\u2029]/);
			return [error.message, lines.length, lines[lines.length - 1].length + 1];
		}
		const message = String(error?.message).replace(/^Error transforming [^:]*: /, '').replace(/ \(\d+:\d+\)$/, '');
		return [message, error?.loc?.line ?? 1, error?.loc?.column ?? 1];
	}
}
