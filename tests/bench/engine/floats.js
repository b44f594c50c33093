// SPDX-License-Identifier: MIT
// Floating point in objects and in arrays: the five bodies of the outer solar system, and the spectral norm of a matrix.
import { measure } from './measure.js';

const DAYS = 365.24;
const SOLAR_MASS = 4 * Math.PI * Math.PI;

const body = (x, y, z, vx, vy, vz, mass) =>
	({ x, y, z, vx: vx * DAYS, vy: vy * DAYS, vz: vz * DAYS, mass: mass * SOLAR_MASS });

function solarSystem() {
	const bodies = [
		body(0, 0, 0, 0, 0, 0, 1),
		body(4.84143144246472090, -1.16032004402742839, -0.103622044471123109,
			0.00166007664274403694, 0.00769901118419740425, -0.0000690460016972063023, 0.000954791938424326609),
		body(8.34336671824457987, 4.12479856412430479, -0.403523417114321381,
			-0.00276742510726411542, 0.00499852801234917238, 0.0000230417297573763929, 0.000285885980666130812),
		body(12.8943695621391310, -15.1111514016986312, -0.223307578892655734,
			0.00296460137564761618, 0.00237847173959480950, -0.0000296589568540237556, 0.0000436624404335156298),
		body(15.3796971148509165, -25.9193146099879641, 0.179258772950371181,
			0.00268067772490389322, 0.00162824170038242295, -0.0000951592254519715870, 0.0000515138902046611451),
	];
	for (const key of ['vx', 'vy', 'vz'])
		bodies[0][key] = -bodies.reduce((sum, each) => sum + each[key] * each.mass, 0) / SOLAR_MASS;
	return bodies;
}

function advance(bodies, step) {
	for (let i = 0; i < bodies.length; i++) {
		const a = bodies[i];
		for (let j = i + 1; j < bodies.length; j++) {
			const b = bodies[j];
			const dx = a.x - b.x, dy = a.y - b.y, dz = a.z - b.z;
			const square = dx * dx + dy * dy + dz * dz;
			const magnitude = step / (square * Math.sqrt(square));
			a.vx -= dx * b.mass * magnitude;
			a.vy -= dy * b.mass * magnitude;
			a.vz -= dz * b.mass * magnitude;
			b.vx += dx * a.mass * magnitude;
			b.vy += dy * a.mass * magnitude;
			b.vz += dz * a.mass * magnitude;
		}
	}
	for (const each of bodies) {
		each.x += step * each.vx;
		each.y += step * each.vy;
		each.z += step * each.vz;
	}
}

function energy(bodies) {
	let sum = 0;
	bodies.forEach((a, i) => {
		sum += 0.5 * a.mass * (a.vx * a.vx + a.vy * a.vy + a.vz * a.vz);
		for (const b of bodies.slice(i + 1))
			sum -= a.mass * b.mass / Math.hypot(a.x - b.x, a.y - b.y, a.z - b.z);
	});
	return sum;
}

const element = (i, j) => 1 / ((i + j) * (i + j + 1) / 2 + i + 1);

function multiply(vector, result, transposed) {
	for (let i = 0; i < vector.length; i++) {
		let sum = 0;
		for (let j = 0; j < vector.length; j++)
			sum += (transposed ? element(j, i) : element(i, j)) * vector[j];
		result[i] = sum;
	}
}

function spectralNorm(size) {
	const u = new Array(size).fill(1), v = new Array(size).fill(0), w = new Array(size).fill(0);
	for (let i = 0; i < 5; i++) {
		multiply(u, w, false);
		multiply(w, v, true);
		multiply(v, w, false);
		multiply(w, u, true);
	}
	let uv = 0, vv = 0;
	for (let i = 0; i < size; i++) {
		uv += u[i] * v[i];
		vv += v[i] * v[i];
	}
	return Math.sqrt(uv / vv);
}

function work() {
	const bodies = solarSystem();
	for (let i = 0; i < 130000; i++)
		advance(bodies, 0.01);
	return `${energy(bodies).toFixed(9)} ${spectralNorm(200).toFixed(9)}`;
}

await measure(work, '-0.169025878 1.274223601');
