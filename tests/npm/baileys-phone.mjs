// A Baileys client as a program: commands come as JSON lines on stdin, events go as JSON lines to
// stdout, Baileys' own log goes to stderr (level in LOG, default "silent").
//
// Commands, `{"do": …}`:
//   connect {url, [folder], [name], [number, [code]], [keepAliveMs], [queryMs]}
//                                    first connection; credentials live in `folder`, else in memory;
//                                    with `number`, links by eight-letter code instead of by QR code;
//                                    the times are how often it pings and how long it waits for answers
//   send {to, text, [id]}            `to` is a number, a JID or a group's id with @g.us
//   create_group {subject, members}  members are JIDs
//   read {chat, id, [participant]}   sends a read receipt
//   typing {to, on}
//   presence {available}             says whether somebody looks at it
//   subscribe {to}                   wants to know whether that person is there
//   drop                             cuts the TCP connection without a word
//   reconnect                        connects again with the same credentials
//   forget_sessions                  loses all Signal sessions: what comes next needs a retry
//   logout                           unlinks itself
//   quit
//
// Events, `{"event": …}`:
//   qr {text} · code {code} · paired {jid} · open {jid, lid, name} · close {statusCode, reason}
//   message {chat, from, fromAlt, fromMe, id, text} · undecryptable {chat, from, id}
//   receipt {id, status} · group {id} · sent {id} · error {command, message}
//   presence {of, state}             state: available, unavailable, composing
//   stanza {id, offline} · ack {class, id, error}
//                                    a message and an acknowledgement as they came over the wire
//   pong                             the server answered a ping
//
// A close with 515 (restart required) reconnects by itself, as every Baileys app does.

import { createInterface } from 'node:readline'
import { mkdirSync } from 'node:fs'
import pino from 'pino'
import makeWASocket, {
  BufferJSON, DisconnectReason, initAuthCreds, jidNormalizedUser, proto, useMultiFileAuthState,
} from '@whiskeysockets/baileys'

// Baileys' Signal library writes whole sessions to the console; stdout is ours.
const shown = process.env.LOG ? console.error : () => {}
console.log = console.info = console.debug = console.warn = console.error = shown

const VERSION = [2, 3000, 1043857760]
const SENT_KEPT = 1000 // messages that a retry receipt can ask for again

const logger = pino({ level: process.env.LOG ?? 'silent' }, pino.destination(2))
const sent = new Map()
let settings, auth, socket

const emit = (event, details = {}) => process.stdout.write(JSON.stringify({ event, ...details }) + '\n')

/** Credentials that live as long as this process. */
function memoryAuthState() {
  const stored = {}
  const copy = value => JSON.parse(JSON.stringify(value, BufferJSON.replacer), BufferJSON.reviver)
  const keys = {
    get: async (type, ids) => {
      const found = {}
      for (const id of ids) {
        let value = stored[type]?.[id]
        if (value !== undefined) {
          value = copy(value)
          if (type === 'app-state-sync-key') value = proto.Message.AppStateSyncKeyData.fromObject(value)
          found[id] = value
        }
      }
      return found
    },
    set: async data => {
      for (const [type, entries] of Object.entries(data)) {
        stored[type] ??= {}
        for (const [id, value] of Object.entries(entries)) {
          if (value == null) delete stored[type][id]
          else stored[type][id] = copy(value)
        }
      }
    },
  }
  return { state: { creds: initAuthCreds(), keys }, saveCreds: async () => {}, sessions: async () => Object.keys(stored.session ?? {}) }
}

async function folderAuthState(folder) {
  mkdirSync(folder, { recursive: true })
  const { readdir } = await import('node:fs/promises')
  const sessions = async () => (await readdir(folder))
    .filter(name => name.startsWith('session-'))
    .map(name => name.slice('session-'.length, -'.json'.length))
  return { ...(await useMultiFileAuthState(folder)), sessions }
}

function open() {
  const current = makeWASocket({
    waWebSocketUrl: settings.url,
    auth: auth.state,
    version: VERSION,
    pushName: settings.name,
    logger,
    syncFullHistory: false,
    shouldSyncHistoryMessage: () => false,
    markOnlineOnConnect: true,
    generateHighQualityLinkPreview: false,
    getMessage: async key => sent.get(key.id),
    ...(settings.keepAliveMs && { keepAliveIntervalMs: settings.keepAliveMs }),
    ...(settings.queryMs && { defaultQueryTimeoutMs: settings.queryMs }),
  })
  socket = current
  current.ev.on('creds.update', auth.saveCreds)
  current.ev.on('connection.update', update => onConnection(current, update))
  current.ev.on('messages.upsert', ({ messages }) => messages.forEach(onMessage))
  current.ev.on('presence.update', ({ id, presences }) => {
    for (const { lastKnownPresence } of Object.values(presences)) emit('presence', { of: id, state: lastKnownPresence })
  })
  current.ws.on('CB:message', ({ attrs }) => emit('stanza', { id: attrs.id, offline: attrs.offline }))
  // Only the answer to a ping carries the time.
  current.ws.on('CB:iq,type:result', ({ attrs }) => attrs.t && emit('pong'))
  current.ws.on('CB:ack', ({ attrs }) => emit('ack', { class: attrs.class, id: attrs.id, error: attrs.error }))
  current.ev.on('messages.update', updates => {
    for (const { key, update } of updates) {
      if (update.status != null) emit('receipt', { id: key.id, status: update.status })
      // A retry brought the content of a message that could not be read before.
      if (update.message) onMessage({ key, message: update.message })
    }
  })
}

async function onConnection(current, { qr, connection, isNewLogin, lastDisconnect }) {
  if (qr && !settings.number) emit('qr', { text: qr })
  if (qr && settings.number && !settings.asked) {
    settings.asked = true
    emit('code', { code: await current.requestPairingCode(settings.number, settings.code) })
  }
  if (isNewLogin) emit('paired', { jid: auth.state.creds.me?.id })
  if (connection === 'open') {
    const { id: jid, lid, name } = auth.state.creds.me ?? {}
    emit('open', { jid, lid, name })
    // Without this, receipts say "inactive" for want of a name.
    await current.sendPresenceUpdate('available').catch(() => {})
  }
  if (connection === 'close') {
    const statusCode = lastDisconnect?.error?.output?.statusCode
    if (statusCode === DisconnectReason.restartRequired) return open()
    if (current === socket) emit('close', { statusCode, reason: lastDisconnect?.error?.message })
  }
}

function onMessage({ key, message, messageStubType, status }) {
  // A receipt that came while Baileys held its events back is folded into the message.
  if (key.fromMe && status >= proto.WebMessageInfo.Status.DELIVERY_ACK) emit('receipt', { id: key.id, status })
  const from = key.fromMe ? auth.state.creds.me?.id : key.participant || key.remoteJid
  const about = {
    chat: key.remoteJid,
    from: from && jidNormalizedUser(from),
    fromAlt: key.participantAlt || key.remoteJidAlt,
    fromMe: !!key.fromMe,
    id: key.id,
  }
  if (messageStubType === proto.WebMessageInfo.StubType.CIPHERTEXT) return emit('undecryptable', about)
  const content = message?.ephemeralMessage?.message ?? message
  if (!content || content.protocolMessage) return
  const text = content.conversation || content.extendedTextMessage?.text || content.imageMessage?.caption
    || content.documentMessage?.caption || ''
  emit('message', { ...about, text })
}

const jidOf = to => (to.includes('@') ? to : `${to}@s.whatsapp.net`)

const commands = {
  async connect({ url, folder, name, number, code, keepAliveMs, queryMs }) {
    settings = { url, name, number, code, keepAliveMs, queryMs, asked: false }
    auth = folder ? await folderAuthState(folder) : memoryAuthState()
    open()
  },
  async send({ to, text, id }) {
    const message = await socket.sendMessage(jidOf(to), { text }, { messageId: id })
    sent.set(message.key.id, message.message)
    if (sent.size > SENT_KEPT) sent.delete(sent.keys().next().value)
    emit('sent', { id: message.key.id })
  },
  async create_group({ subject, members }) {
    emit('group', { id: (await socket.groupCreate(subject, members.map(jidOf))).id })
  },
  async read({ chat, id, participant }) {
    await socket.readMessages([{ remoteJid: jidOf(chat), id, participant }])
  },
  async typing({ to, on }) {
    await socket.sendPresenceUpdate(on ? 'composing' : 'paused', jidOf(to))
  },
  async presence({ available }) {
    await socket.sendPresenceUpdate(available ? 'available' : 'unavailable')
  },
  async subscribe({ to }) {
    await socket.presenceSubscribe(jidOf(to))
  },
  async drop() {
    socket.ws.socket.terminate()
  },
  async reconnect() {
    open()
  },
  async forget_sessions() {
    const ids = await auth.sessions()
    await auth.state.keys.set({ session: Object.fromEntries(ids.map(id => [id, null])) })
  },
  async logout() {
    await socket.logout()
  },
  async quit() {
    process.exit(0)
  },
}

createInterface({ input: process.stdin })
  .on('line', async line => {
    if (!line.trim()) return
    let command
    try {
      command = JSON.parse(line)
      if (!Object.hasOwn(commands, command.do)) throw new Error('no such command')
      await commands[command.do](command)
    } catch (error) {
      emit('error', { command: command?.do, message: String(error?.message ?? error) })
    }
  })
  .on('close', () => process.exit(0))
