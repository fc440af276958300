// The smallest honest registration bot on Baileys: the baseline that `testbed bench` measures
// bot-kjp against. Same conversation in short, same checks of length, prefix and equality, the same
// durability (SQLite, WAL, synchronous=FULL, one transaction per message). It does less than
// bot-kjp: no pacing, no outbox, no sync, no log. What it lacks is to its advantage.
//
//   node minimal-bot.mjs URL FOLDER [RECONNECT_AFTER_MS]
//
// A connection that ends is followed by the next one after RECONNECT_AFTER_MS (default 1000). With 0
// it reconnects as Baileys' own example does, and most bots that were made from it:
//   if (statusCode !== DisconnectReason.loggedOut) connect()
//
// FOLDER gets the session (`auth/`) and the database (`registrations.db`). One JSON object per line
// on stdout: {"event":"start","pid"}, {"event":"qr","text"}, {"event":"open"}, {"event":"close","code"}.
// SIGTERM ends it once everything is written.

import { createHash } from 'node:crypto'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import makeWASocket, { DisconnectReason, makeCacheableSignalKeyStore, useMultiFileAuthState } from '@whiskeysockets/baileys'
import pino from 'pino'

const MENU = '*Pendaftaran Pangan Bersubsidi*\n\n1 Daftar\n2 Cek data saya\n6 Bantuan'
const PROVIDERS = '*Pilih tempat pengambilan:*\n1 Pasarjaya\n2 Dharmajaya\n3 Foodstation\n0 Batal'
const GUIDE = '*Foodstation*: 4 baris per orang: nama, jenis dan nomor kartu, nomor KTP, nomor KK.'
const LINES_PER_PERSON = 4
const LIST_MAX_ROWS = 60 // about as many as fit into bot-kjp's longest reply
const RECONNECT_AFTER_MS = 1000

const [url, folder, reconnectAfter = RECONNECT_AFTER_MS] = process.argv.slice(2)
if (!folder) {
    console.error('usage: node minimal-bot.mjs URL FOLDER [RECONNECT_AFTER_MS]')
    process.exit(64)
}
const say = (event, rest = {}) => console.log(JSON.stringify({ event, ...rest }))

const database = new DatabaseSync(join(folder, 'registrations.db'))
database.exec(`
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    CREATE TABLE IF NOT EXISTS inbound (chat TEXT, id TEXT, PRIMARY KEY (chat, id)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS registration (
        id INTEGER PRIMARY KEY, day TEXT NOT NULL, sender TEXT NOT NULL, nama TEXT NOT NULL,
        card TEXT NOT NULL, nik TEXT NOT NULL, kk TEXT NOT NULL, lokasi TEXT NOT NULL,
        UNIQUE (day, nik), UNIQUE (day, card));`)
const remember = database.prepare('INSERT OR IGNORE INTO inbound VALUES (?, ?)')
const insert = database.prepare(
    'INSERT INTO registration (day, sender, nama, card, nik, kk, lokasi) VALUES (?, ?, ?, ?, ?, ?, ?)')
const ofToday = database.prepare('SELECT nama, card FROM registration WHERE day = ? AND sender = ? ORDER BY id')

/** The registration day: the date in Jakarta (UTC+7). */
const dayOf = seconds => new Date((seconds + 7 * 3600) * 1000).toISOString().slice(0, 10)
const digits = line => line.replace(/\D/g, '')

function faultsOf({ nama, card, nik, kk }) {
    const faults = []
    if (!nama) faults.push('nama kosong')
    if (card.length < 16 || card.length > 18) faults.push(`nomor kartu ${card.length} angka`)
    else if (!card.startsWith('504948')) faults.push('nomor kartu harus diawali 504948')
    if (nik.length !== 16) faults.push(`nomor KTP ${nik.length} angka`)
    if (kk.length !== 16) faults.push(`nomor KK ${kk.length} angka`)
    if (nik === card || kk === card || kk === nik) faults.push('ada nomor yang sama')
    return faults
}

/** Keeps the people of a message, at most one per card and NIK a day, and says what became of each. */
function register(sender, day, lines) {
    const [saved, refused] = [[], []]
    for (let at = 0; at + LINES_PER_PERSON <= lines.length; at += LINES_PER_PERSON) {
        const nama = lines[at].replace(/^nama\s*:?\s*/i, '').trim()
        const [card, nik, kk] = lines.slice(at + 1, at + LINES_PER_PERSON).map(digits)
        const faults = faultsOf({ nama, card, nik, kk })
        if (faults.length === 0) {
            try {
                insert.run(day, sender, nama, card, nik, kk, 'FOODSTATION')
                saved.push(`• ${nama} – ${card}`)
                continue
            } catch (error) {
                if (!/UNIQUE/.test(error.message)) throw error
                faults.push('kartu atau KTP sudah didaftarkan hari ini')
            }
        }
        refused.push(`• ${nama}: ${faults.join(', ')}`)
    }
    const rest = lines.length % LINES_PER_PERSON
    if (rest) refused.push(`• ${rest} baris sisa`)
    const today = ofToday.all(day, sender)
    const list = today.slice(0, LIST_MAX_ROWS).map((row, n) => `${n + 1}. ${row.nama} – ${row.card}`)
    if (today.length > LIST_MAX_ROWS) list.push(`… dan ${today.length - LIST_MAX_ROWS} lagi`)
    return [
        saved.length ? `*Tersimpan:*\n${saved.join('\n')}` : '',
        refused.length ? `*Belum tersimpan:*\n${refused.join('\n')}` : '',
        `*Data Anda hari ini (${today.length}):*\n${list.join('\n')}`,
    ].filter(Boolean).join('\n\n')
}

/** chat → 'choosing' or 'chosen'; in memory only. */
const states = new Map()

function answer(sender, text, seconds) {
    const command = text.trim().toUpperCase()
    const lines = text.split('\n').map(line => line.trim()).filter(Boolean)
    const day = dayOf(seconds)
    if (command === '1' || command === 'DAFTAR') {
        states.set(sender, 'choosing')
        return PROVIDERS
    }
    if (command === '0' || command === 'BATAL') {
        states.delete(sender)
        return MENU
    }
    if (states.get(sender) === 'choosing') {
        if (command !== '3') return PROVIDERS
        states.set(sender, 'chosen')
        return GUIDE
    }
    if (lines.length >= LINES_PER_PERSON) {
        return states.get(sender) === 'chosen' ? register(sender, day, lines) : PROVIDERS
    }
    if (command === '2') return ofToday.all(day, sender).map(row => `${row.nama} – ${row.card}`).join('\n') || 'Belum ada data.'
    return MENU
}

/** One transaction per message: seen before, or remembered together with what it registers. */
function receive(sender, id, text, seconds) {
    database.exec('BEGIN IMMEDIATE')
    try {
        const isNew = remember.run(sender, id).changes === 1
        const reply = isNew ? answer(sender, text, seconds) : undefined
        database.exec('COMMIT')
        return reply
    } catch (error) {
        database.exec('ROLLBACK')
        throw error
    }
}

/** The reply's id follows from the incoming one, so that a reply sent twice is shown once. */
const replyId = id => '3EB0' + createHash('sha256').update(id).digest('hex').slice(0, 18).toUpperCase()

const logger = pino({ level: 'silent' })
const { state, saveCreds } = await useMultiFileAuthState(join(folder, 'auth'))

let current
let ending = false

function connect() {
    const socket = makeWASocket({
        waWebSocketUrl: url,
        auth: { creds: state.creds, keys: makeCacheableSignalKeyStore(state.keys, logger) },
        logger,
        syncFullHistory: false,
        shouldSyncHistoryMessage: () => false,
        getMessage: async () => undefined,
    })
    current = socket
    socket.ev.on('creds.update', saveCreds)
    socket.ev.on('connection.update', ({ connection, lastDisconnect, qr }) => {
        if (qr) say('qr', { text: qr })
        if (connection === 'open') say('open')
        if (connection === 'close') {
            const code = lastDisconnect?.error?.output?.statusCode
            say('close', { code })
            if (ending) return
            if (code === DisconnectReason.loggedOut) process.exit(1)
            const wait = code === DisconnectReason.restartRequired ? 0 : Number(reconnectAfter)
            // Without a timer when there is nothing to wait for: so it stands in the example.
            if (wait === 0) connect()
            else setTimeout(connect, wait)
        }
    })
    socket.ev.on('messages.upsert', async ({ messages }) => {
        for (const { key, message, messageTimestamp } of messages) {
            const text = message?.conversation ?? message?.extendedTextMessage?.text
            if (key.fromMe || !text || key.remoteJid.endsWith('@g.us')) continue
            const reply = receive(key.remoteJid, key.id, text, Number(messageTimestamp))
            if (reply) await socket.sendMessage(key.remoteJid, { text: reply }, { messageId: replyId(key.id) })
        }
    })
}

/** Ends once no file is being written: half a session would be worth nothing. */
function endWhenWritten() {
    const writes = process.getActiveResourcesInfo().some(resource => /^(FSReq|CloseReq)/.test(resource))
    if (writes) setImmediate(endWhenWritten)
    else process.exit(0)
}

process.once('SIGTERM', () => {
    ending = true
    current.end()
    setImmediate(endWhenWritten)
})

say('start', { pid: process.pid })
connect()
