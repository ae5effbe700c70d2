import Glibc
import PVClock

// Reads the 32 bytes of a clock record and says what time a guest makes of them.
//
//   reading-a-clock-page                      a record that was found in a guest
//   reading-a-clock-page BYTES TSC            another one, as 64 hexadecimal digits, at a guest's TSC

/// A guest's record in eight words, as Linux 6.18 wrote it, and the guest's TSC 43 ms later.
var words: [UInt32] = [
  2, 0, 0x8c26_f344, 0x0000_093b, 0x001e_b9b5, 0x0000_0000, 0xc537_1140, 0x0000_01ff,
]
var tsc: UInt64 = 10_151_471_272_630

func fail(_ message: String) -> Never {
  print("reading-a-clock-page: \(message)")
  exit(64)
}

if CommandLine.arguments.count > 1 {
  guard CommandLine.arguments.count == 3, let given = UInt64(CommandLine.arguments[2]) else {
    fail("give 64 hexadecimal digits and a TSC in decimal")
  }
  let digits = Array(CommandLine.arguments[1])
  let bytes = stride(from: 0, to: digits.count - 1, by: 2).compactMap {
    UInt8(String(digits[$0...($0 + 1)]), radix: 16)
  }
  guard digits.count == 64, let page = ClockPage(bytes: bytes) else {
    fail("a record has 32 bytes, which are 64 hexadecimal digits")
  }
  (words, tsc) = (page.words, given)
}

// The host may be writing while we read. In shared memory `word` loads the word anew each time; here nothing changes.
guard let page = VersionProtocol.snapshot(attempts: 100, word: { words[$0] }) else {
  fail("version \(words[0]) stays odd: the host is in the middle of an update")
}

let now = page.systemTime(atTSC: tsc)
print("version            \(page.version)")
print("tsc_timestamp      \(page.tscTimestamp)")
print("system_time        \(page.systemTime) ns")
print("tsc_to_system_mul  \(page.tscToSystemMultiplier)")
print("tsc_shift          \(page.tscShift)")
print("TSC                \(page.scale.tscKHz.map { "\($0) kHz" } ?? "of no frequency")")
print("stable             \(page.flags.contains(.tscStable) ? "yes" : "no")")
print("time at \(tsc)  \(now) ns")
