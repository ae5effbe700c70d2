import ABIChecker
import Glibc
import KVM
import Reporting
import VMBuilder

// libFuzzer calls this with inputs of its own making, a million times. A trap, a second for one input, or too much memory
// ends it with the input in a file.

/// Judges, or reads, one input. Its first byte says as what.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOneInput(_ start: UnsafePointer<UInt8>, _ count: Int) -> Int32 {
  let input = Array(UnsafeBufferPointer(start: start, count: count))
  guard let kind = input.first else { return 0 }
  let rest = Array(input.dropFirst())
  switch kind {
  case UInt8(ascii: "h"):
    Tally.isShown
    Tally.histories += 1
    History.fuzz(rest)
  case UInt8(ascii: "r"): _ = try? SavedReport.read(Scratch.file(rest))
  case UInt8(ascii: "s"): _ = try? SoakState.read(Scratch.file(rest)).report()
  case UInt8(ascii: "t"): _ = try? BenchTable.read(Scratch.file(rest))
  case UInt8(ascii: "m"): HostileMailbox.shared.read(rest)
  default: break
  }
  return 0
}

extension History {
  /// What `kvmclock check` does with a file: reads it, judges it, and reports it in every format.
  fileprivate static func fuzz(_ bytes: [UInt8]) {
    guard let saved = try? HistoryFile.read(Scratch.file(bytes)),
      (try? saved.requirePossible()) != nil
    else { return }
    Tally.judged += 1
    let timeline = Timeline(saved.judged)
    let scenario = saved.history.header.scenario
    let verdicts = Rule.all.compactMap { rule -> Verdict? in
      let verdict = rule.verdict(on: [timeline])
      return rule.isExercised(by: scenario) || verdict.outcome.isBroken ? verdict : nil
    }
    var report = Report(
      version: "fuzz", host: saved.history.header.host, seed: saved.history.header.seed,
      verdicts: verdicts)
    report.histories = [saved.history]
    // One of them each time: to render takes longer than to judge.
    let format = ReportFormat.allCases[bytes.count % ReportFormat.allCases.count]
    let text = format.render(report, style: ReportStyle())
    let isPlain = text.utf8.allSatisfy { $0 >= 0x20 || $0 == 0x0a || $0 == 0x09 }
    precondition(isPlain, "a control character reached the format \(format)")
  }
}

/// How many inputs there were, said at the end: of histories only those count that can be judged.
private enum Tally {
  nonisolated(unsafe) static var histories = 0
  nonisolated(unsafe) static var judged = 0

  /// To be touched once.
  static let isShown: Void = {
    atexit { print("fuzz: \(Tally.histories) histories, of which \(Tally.judged) were judged") }
  }()
}

/// One file in memory, which each input overwrites.
private enum Scratch {
  private static let descriptor: Int32 = {
    let name = "/dev/shm/kvmclock-fuzz-\(getpid())"
    let descriptor = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    precondition(descriptor >= 0, "no file in /dev/shm")
    unlink(name)
    return descriptor
  }()

  static func file(_ bytes: [UInt8]) -> String {
    ftruncate(descriptor, 0)
    precondition(pwrite(descriptor, bytes, bytes.count, 0) == bytes.count)
    return "/proc/self/fd/\(descriptor)"
  }
}

/// A guest's mailbox that holds whatever a guest may write there.
private struct HostileMailbox: ~Copyable {
  static let shared = HostileMailbox()
  private let memory: GuestMemory

  private init() {
    guard let memory = try? GuestMemory(size: Layout.memorySize(highest: 0)) else {
      preconditionFailure("no memory")
    }
    self.memory = memory
  }

  func read(_ bytes: [UInt8]) {
    let mailbox = Mailbox(vcpu: 0)
    let room = memory.size - mailbox.base
    memory.write(Array(bytes.prefix(room)), at: mailbox.base)
    _ = try? mailbox.reply(in: memory, vcpu: 0)
    _ = mailbox.loop(in: memory)
    _ = mailbox.trace(in: memory)
  }
}

// MARK: Mutations that leave a history readable

@_silgen_name("LLVMFuzzerMutate")
private func mutateBytes(_ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ most: Int) -> Int

/// For a history most often a mutation of lines or of a number, with the events counted anew; else libFuzzer's own of the bytes,
/// which the reader refuses.
@_cdecl("LLVMFuzzerCustomMutator")
public func mutate(
  _ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ most: Int, _ seed: UInt32
) -> Int {
  var random = Random(state: UInt64(seed) &+ 1)
  guard size > 0, data[0] == UInt8(ascii: "h"), random.below(16) != 0 else {
    return mutateBytes(data, size, most)
  }
  var lines = UnsafeBufferPointer(start: data, count: size)
    .split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: true).map(Array.init)
  let end = Array("{\"endsAfter\":".utf8)
  let isEnded = lines.last?.starts(with: end) ?? false
  if isEnded { lines.removeLast() }
  for _ in 0...random.below(3) { change(&lines, &random) }
  for index in lines.indices.dropFirst() { renumber(&lines[index], index) }
  if isEnded { lines.append(end + Array("\(lines.count - 1)}".utf8)) }
  let result = Array(lines.joined(separator: [UInt8(ascii: "\n")])) + [UInt8(ascii: "\n")]
  guard result.count <= most else { return mutateBytes(data, size, most) }
  for (index, byte) in result.enumerated() { data[index] = byte }
  return result.count
}

private func change(_ lines: inout [[UInt8]], _ random: inout Random) {
  guard lines.count > 1 else { return }
  let at = 1 + random.below(lines.count - 1)
  let other = 1 + random.below(lines.count - 1)
  switch random.below(8) {
  case 0: if lines.count > 2 { lines.remove(at: at) }
  case 1: lines.insert(lines[at], at: at + 1)
  case 2, 3: exchangeAction(&lines[at], lines[other])
  case 4: changeNumber(&lines[random.below(lines.count)], &random)
  default: changeNumber(&lines[at], &random)
  }
}

/// Has an event do what another one did, at its own time.
private func exchangeAction(_ line: inout [UInt8], _ other: [UInt8]) {
  guard let mine = action(line), let theirs = action(other) else { return }
  line.replaceSubrange(mine, with: other[theirs])
}

/// Where an event's action stands: what it did, up to the event's number, which comes next.
private func action(_ line: [UInt8]) -> Range<Int>? {
  guard let start = place(of: "\"did\":", in: line), let end = place(of: ",\"n\":", in: line),
    start < end
  else { return nil }
  return start..<end
}

private func place(of text: StaticString, in line: [UInt8]) -> Int? {
  line.withUnsafeBytes { bytes in
    guard let start = bytes.baseAddress, bytes.count >= text.utf8CodeUnitCount else { return nil }
    return (0...bytes.count - text.utf8CodeUnitCount).first {
      memcmp(start + $0, text.utf8Start, text.utf8CodeUnitCount) == 0
    }
  }
}

/// Puts another number in the place of one, decimal or hexadecimal: an extreme, or one beside it.
private func changeNumber(_ line: inout [UInt8], _ random: inout Random) {
  let starts = line.indices.dropFirst().filter {
    isDigit(line[$0]) && !isWordPart(line[$0 - 1])
  }
  guard !starts.isEmpty else { return }
  // The last five of most events are its number and its times, and few others of these can have been.
  let choice = random.below(16) == 0 ? starts.count : max(1, starts.count - 5)
  let start = starts[random.below(choice)]
  let end = line[start...].firstIndex { !isWordPart($0) } ?? line.endIndex
  let text = String(decoding: line[start..<end], as: UTF8.self)
  let old = text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text)
  guard let old else { return }
  let small: [UInt64] = [0, 1, old &+ 1, old &- 1, old ^ 1 << UInt64(random.below(8))]
  // What a field of 32 bits does not hold is refused.
  let large: [UInt64] =
    old >> 32 == 0 && random.below(8) != 0
    ? [old ^ 1 << UInt64(random.below(32)), 1 << 31, UInt64(UInt32.max)]
    : [old ^ 1 << UInt64(random.below(64)), 1 << 32, 1 << 63, .max, UInt64(Int64.max)]
  let numbers = old < 16 && random.below(8) != 0 ? small : small + large
  let new = numbers[random.below(numbers.count)]
  let digits = text.hasPrefix("0x") ? "0x" + String(new, radix: 16) : "\(new)"
  line.replaceSubrange(start..<end, with: digits.utf8)
}

private func isWordPart(_ byte: UInt8) -> Bool {
  isDigit(byte) || (97...122).contains(byte) || (65...90).contains(byte) || byte == 95
}

private func renumber(_ line: inout [UInt8], _ number: Int) {
  guard let key = place(of: "\"n\":", in: line) else { return }
  let start = key + 4
  let end = line[start...].firstIndex { !isDigit($0) } ?? line.endIndex
  line.replaceSubrange(start..<end, with: "\(number)".utf8)
}

private func isDigit(_ byte: UInt8) -> Bool { (48...57).contains(byte) }

private struct Random {
  var state: UInt64

  mutating func below(_ limit: Int) -> Int {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Int(state >> 33) % max(1, limit)
  }
}
