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
  case UInt8(ascii: "h"): History.fuzz(rest)
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
    guard let saved = try? HistoryFile.read(Scratch.file(bytes)) else { return }
    _ = try? saved.requirePossible()
    let timeline = Timeline(saved.judged)
    let verdicts = Rule.all.map { $0.verdict(on: [timeline]) }
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

/// Half of the time libFuzzer's own mutation of the bytes; else one of lines or of a number, with the events counted anew.
@_cdecl("LLVMFuzzerCustomMutator")
public func mutate(
  _ data: UnsafeMutablePointer<UInt8>, _ size: Int, _ most: Int, _ seed: UInt32
) -> Int {
  var random = Random(state: UInt64(seed) &+ 1)
  guard size > 0, data[0] == UInt8(ascii: "h"), random.below(2) == 0 else {
    return mutateBytes(data, size, most)
  }
  let bytes = Array(UnsafeBufferPointer(start: data, count: size))
  var lines = bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    .map(Array.init)
  for _ in 0...random.below(3) { change(&lines, &random) }
  for index in lines.indices { renumber(&lines[index], index) }
  let result = Array(lines.joined(separator: [UInt8(ascii: "\n")]))
  guard result.count <= most else { return mutateBytes(data, size, most) }
  for (index, byte) in result.enumerated() { data[index] = byte }
  return result.count
}

private func change(_ lines: inout [[UInt8]], _ random: inout Random) {
  let at = random.below(lines.count)
  let other = random.below(lines.count)
  switch random.below(6) {
  case 0: if lines.count > 1 { lines.remove(at: at) }
  case 1: lines.swapAt(at, other)
  case 2: lines.insert(lines[at], at: other)
  default: changeNumber(&lines[at], &random)
  }
}

/// Puts another number in the place of one: an extreme, or one beside it.
private func changeNumber(_ line: inout [UInt8], _ random: inout Random) {
  let starts = line.indices.filter {
    isDigit(line[$0]) && ($0 == 0 || !isDigit(line[$0 - 1]))
  }
  guard !starts.isEmpty else { return }
  let start = starts[random.below(starts.count)]
  let end = line[start...].firstIndex { !isDigit($0) } ?? line.endIndex
  let old = UInt64(String(decoding: line[start..<end], as: UTF8.self)) ?? 0
  let numbers: [UInt64] = [
    0, 1, old &+ 1, old &- 1, old ^ 1 << UInt64(random.below(64)), 1 << 31, 1 << 32, 1 << 63, .max,
    UInt64(Int64.max),
  ]
  line.replaceSubrange(start..<end, with: "\(numbers[random.below(numbers.count)])".utf8)
}

private func renumber(_ line: inout [UInt8], _ number: Int) {
  let key = Array("\"n\":".utf8)
  guard line.count > key.count,
    let at = (0...line.count - key.count).first(where: { line[$0..<$0 + key.count] == key[...] })
  else { return }
  let start = at + key.count
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
