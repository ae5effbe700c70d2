package import ABIChecker
internal import GuestImages
internal import PVClock

/// What the guest said on COM1 to one request: lines of hexadecimal numbers. guest-images/README.md has their meaning.
package struct GuestAnswer: Sendable {
  /// What each vCPU saw, by its number; vector + 1 of its last WRMSR of the system-time MSR, 0 if it did not fault; and what it
  /// found in that MSR when it started.
  package var vcpus: [Int: (result: SampleResult, fault: UInt64, found: UInt64)] = [:]
  /// vCPUs that run and did not answer in time.
  package var absent: [Int] = []
  package var wall: (fault: UInt64, version: UInt32, seconds: UInt32, nanoseconds: UInt32)?
  /// The five numbers of each `c` line: leaf, EAX, EBX, ECX, EDX.
  package var cpuid: [[UInt64]] = []
  /// Index, value, and vector + 1.
  package var msrs: [[UInt64]] = []

  /// - Throws: `VMMError.badAnswer` with the line that is none.
  package init(lines: [String]) throws(VMMError) {
    var current: Int?
    for line in lines where !line.isEmpty {
      let words = line.split(separator: " ")
      let numbers = words.dropFirst().map { UInt64($0, radix: 16) }
      guard let kind = words.first, !numbers.contains(nil) else { throw .badAnswer(line) }
      let values = numbers.compactMap { $0 }
      switch (kind, values.count) {
      case ("v", 3 + Int(VMM_WORDS)) where values[0] < UInt64(VMM_VCPUS):
        current = Int(values[0])
        vcpus[Int(values[0])] = (
          Self.result(asked: values[1], seen: values[2], Array(values[3...])),
          values[3 + Self.word(VMM_FAULT)], values[3 + Self.word(VMM_FOUND)]
        )
      case ("s", Int(VMM_STRETCH_WORDS)):
        guard let current else { throw .badAnswer(line) }
        vcpus[current]?.result.stretches.append(
          Stretch(
            page: Self.page(values[0..<4]), firstTSC: values[4], lastTSC: values[5],
            reads: values[6]))
      case ("a", 1): absent.append(Int(clamping: values[0]))
      case ("k", 4):
        wall = (
          values[0], UInt32(truncatingIfNeeded: values[1]), UInt32(truncatingIfNeeded: values[2]),
          UInt32(truncatingIfNeeded: values[3])
        )
      case ("c", 5): cpuid.append(values)
      case ("m", 3): msrs.append(values)
      default: throw .badAnswer(line)
      }
    }
  }

  /// Place of a word of a bank in a `v` line, which begins with the loop's counts.
  private static func word(_ offset: Int32) -> Int { (Int(offset) - Int(MAILBOX_LOOP)) / 8 }
  private static func loop(_ offset: Int32) -> Int { Int(offset) / 8 }

  private static func result(asked: UInt64, seen: UInt64, _ words: [UInt64]) -> SampleResult {
    SampleResult(
      reads: words[loop(LOOP_READS)], backwards: words[loop(LOOP_BACKWARDS)],
      worst: Int64(bitPattern: words[loop(LOOP_WORST)]),
      worstBefore: words[loop(LOOP_WORST_BEFORE)],
      worstBeforeTSC: words[loop(LOOP_WORST_BEFORE_TSC)],
      worstAfter: reading(words, LOOP_WORST_AFTER), tscBackwards: words[word(VMM_TSC_BACK)],
      longestGap: words[word(VMM_GAP)], torn: words[loop(LOOP_TORN)],
      neverEven: words[word(VMM_NEVER_EVEN)], dropped: words[loop(LOOP_DROPPED)],
      last: reading(words, LOOP_LAST), asked: asked, seen: seen)
  }

  private static func reading(_ words: [UInt64], _ offset: Int32) -> Reading {
    let at = loop(offset)
    return Reading(tsc: words[at], page: page(words[(at + 1)..<(at + 5)]))
  }

  private static func page(_ words: ArraySlice<UInt64>) -> ClockPage {
    let bytes = words.flatMap { word in
      (0..<8).map { UInt8(truncatingIfNeeded: word >> UInt64(8 * $0)) }
    }
    guard let page = ClockPage(bytes: bytes) else { preconditionFailure("32 bytes are a record") }
    return page
  }
}
