// What runs in the page: a phone made with SIP.js and one made with JsSIP, with the same few commands.
//
// Owns one user agent and one call each. Media is the browser's own: its offer, its answers, a fake microphone.

import JsSIP from 'jssip';
import { Inviter, Messager, Registerer, RegistererState, SessionState, UserAgent } from 'sip.js';

const AUDIO = { audio: true, video: false };

// Something that happens once, to be waited for from elsewhere.
function happening() {
  const it = {};
  it.promise = new Promise((resolve, reject) => Object.assign(it, { resolve, reject }));
  it.promise.catch(() => {});
  return it;
}

// Base of both: texts that have come, and the call.
class Phone {
  constructor() {
    this.texts = [];
    this.waiting = [];
    this.newCall();
  }

  newCall() {
    this.established = happening();
    this.ended = happening();
  }

  took(text) {
    const waits = this.waiting.shift();
    waits ? waits(text) : this.texts.push(text);
  }

  text() {
    return this.texts.length ? Promise.resolve(this.texts.shift()) : new Promise((done) => this.waiting.push(done));
  }

  // Until sound can flow: ICE and DTLS are done.
  async connected() {
    const connection = this.connection();
    while (connection.connectionState !== 'connected') {
      if (connection.connectionState === 'failed') throw new Error('no way for media');
      await new Promise((done) => connection.addEventListener('connectionstatechange', done, { once: true }));
    }
  }
}

class SipJsPhone extends Phone {
  constructor({ user, domain, password, server }) {
    super();
    this.agent = new UserAgent({
      uri: UserAgent.makeURI(`sip:${user}@${domain}`),
      authorizationUsername: user,
      authorizationPassword: password,
      transportOptions: { server },
      sessionDescriptionHandlerFactoryOptions: { iceGatheringTimeout: 1000, peerConnectionConfiguration: { iceServers: [] } },
      logLevel: 'warn',
      delegate: {
        onInvite: (session) => {
          this.follow(session);
          session.accept({ sessionDescriptionHandlerOptions: { constraints: AUDIO } });
        },
        onMessage: async (message) => {
          await message.accept();
          this.took(message.request.body);
        },
      },
    });
  }

  async register() {
    await this.agent.start();
    const registerer = new Registerer(this.agent, { expires: 60 });
    const done = happening();
    registerer.stateChange.addListener((state) => state === RegistererState.Registered && done.resolve());
    await registerer.register({ requestDelegate: { onReject: (r) => done.reject(new Error(`REGISTER: ${r.message.statusCode}`)) } });
    await done.promise;
  }

  write(target, text) {
    const done = happening();
    new Messager(this.agent, UserAgent.makeURI(target), text).message({
      requestDelegate: {
        onAccept: () => done.resolve(),
        onReject: (r) => done.reject(new Error(`MESSAGE: ${r.message.statusCode}`)),
      },
    });
    return done.promise;
  }

  follow(session) {
    this.newCall();
    this.session = session;
    session.stateChange.addListener((state) => {
      if (state === SessionState.Established) this.established.resolve();
      if (state === SessionState.Terminated) {
        this.established.reject(new Error('the call was not established'));
        this.ended.resolve();
      }
    });
  }

  async call(target) {
    const session = new Inviter(this.agent, UserAgent.makeURI(target), { sessionDescriptionHandlerOptions: { constraints: AUDIO } });
    this.follow(session);
    await session.invite();
    await this.established.promise;
  }

  connection() {
    return this.session.sessionDescriptionHandler.peerConnection;
  }

  hangUp() {
    return this.session.bye();
  }
}

class JsSipPhone extends Phone {
  constructor({ user, domain, password, server }) {
    super();
    const sockets = [new JsSIP.WebSocketInterface(server)];
    this.agent = new JsSIP.UA({ sockets, uri: `sip:${user}@${domain}`, password, register_expires: 60 });
    this.agent.on('newMessage', ({ originator, request }) => originator === 'remote' && this.took(request.body));
    this.agent.on('newRTCSession', ({ originator, session }) => {
      this.follow(session);
      if (originator === 'remote') session.answer({ mediaConstraints: AUDIO, pcConfig: { iceServers: [] } });
    });
  }

  async register() {
    const done = happening();
    this.agent.on('registered', () => done.resolve());
    this.agent.on('registrationFailed', ({ cause }) => done.reject(new Error(`REGISTER: ${cause}`)));
    this.agent.start();
    await done.promise;
  }

  write(target, text) {
    const done = happening();
    const eventHandlers = { succeeded: () => done.resolve(), failed: ({ cause }) => done.reject(new Error(`MESSAGE: ${cause}`)) };
    this.agent.sendMessage(target, text, { eventHandlers });
    return done.promise;
  }

  follow(session) {
    this.newCall();
    this.session = session;
    session.on('confirmed', () => this.established.resolve());
    session.on('ended', () => this.ended.resolve());
    session.on('failed', ({ cause }) => {
      this.established.reject(new Error(`the call was not established: ${cause}`));
      this.ended.resolve();
    });
  }

  async call(target) {
    this.agent.call(target, { mediaConstraints: AUDIO, pcConfig: { iceServers: [] } });
    await this.established.promise;
  }

  connection() {
    return this.session.connection;
  }

  hangUp() {
    this.session.terminate();
  }
}

const KINDS = { 'sip.js': SipJsPhone, jssip: JsSipPhone };
const phones = {};

// The page's commands, called by the runner.
window.phone = {
  start: (account) => {
    phones[account.user] = new KINDS[account.kind](account);
    return phones[account.user].register();
  },
  write: (user, target, text) => phones[user].write(target, text),
  text: (user) => phones[user].text(),
  call: (user, target) => phones[user].call(target),
  established: (user) => phones[user].established.promise,
  connected: (user) => phones[user].connected(),
  offered: (user) => phones[user].connection().localDescription.sdp,
  hangUp: (user) => phones[user].hangUp(),
  ended: (user) => phones[user].ended.promise,
};
