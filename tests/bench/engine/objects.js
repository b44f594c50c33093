// SPDX-License-Identifier: MIT
// Objects with methods that are overridden: tasks of three kinds pass packets through queues under a scheduler, in the manner
// of Richards.
import { measure } from './measure.js';

class Packet {
	constructor(kind, value) {
		this.next = null;
		this.kind = kind;
		this.value = value;
	}
}

class Queue {
	constructor() {
		this.first = this.last = null;
		this.length = 0;
	}
	put(packet) {
		packet.next = null;
		if (this.last === null)
			this.first = packet;
		else
			this.last.next = packet;
		this.last = packet;
		this.length++;
	}
	take() {
		const packet = this.first;
		this.first = packet.next;
		if (this.first === null)
			this.last = null;
		this.length--;
		return packet;
	}
}

class Task {
	constructor(name, priority) {
		this.name = name;
		this.priority = priority;
		this.queue = new Queue();
		this.handled = 0;
	}
	get ready() {
		return this.queue.length > 0;
	}
	run(scheduler) {
		this.handled++;
		this.handle(this.queue.take(), scheduler);
	}
}

class Worker extends Task {
	constructor(name, priority) {
		super(name, priority);
		this.sum = 0;
	}
	handle(packet, scheduler) {
		this.sum = (this.sum * 31 + packet.value) & 0xffffff;
		packet.kind = 'device';
		packet.value = this.sum & 0xff;
		scheduler.send(packet.value % 2 ? 'disk' : 'tape', packet);
	}
}

class Device extends Task {
	constructor(name, priority, delay) {
		super(name, priority);
		this.delay = delay;
		this.held = new Queue();
	}
	handle(packet, scheduler) {
		this.held.put(packet);
		if (this.held.length < this.delay)
			return;
		const done = this.held.take();
		done.kind = 'work';
		done.value += this.delay;
		scheduler.send('handler', done);
	}
}

class Handler extends Task {
	handle(packet, scheduler) {
		scheduler.passed++;
		scheduler.send(packet.value & 4 ? 'left' : 'right', packet);
	}
}

class Scheduler {
	constructor() {
		this.passed = 0;
		this.tasks = [];
		this.byName = new Map();
	}
	add(task) {
		this.tasks.push(task);
		this.tasks.sort((a, b) => b.priority - a.priority);
		this.byName.set(task.name, task);
		return task;
	}
	send(name, packet) {
		this.byName.get(name).queue.put(packet);
	}
	choose() {
		for (const task of this.tasks)
			if (task.ready)
				return task;
		return null;
	}
	run(until) {
		let task;
		while (this.passed < until && (task = this.choose()) !== null)
			task.run(this);
	}
}

function work() {
	const scheduler = new Scheduler();
	scheduler.add(new Worker('left', 10));
	scheduler.add(new Worker('right', 20));
	scheduler.add(new Handler('handler', 30));
	scheduler.add(new Device('disk', 40, 3));
	scheduler.add(new Device('tape', 50, 5));
	for (let i = 0; i < 40; i++)
		scheduler.send('handler', new Packet('work', i));
	scheduler.run(220000);
	return scheduler.tasks.map((task) => `${task.name} ${task.handled}`).join(', ') +
		`, ${scheduler.byName.get('left').sum}`;
}

await measure(work, 'tape 70566, disk 149400, handler 220000, right 106358, left 113608, 4845071');
