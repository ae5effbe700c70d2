package import VMBuilder

/// The guest's COM1: one request, one answer.
package final class Console {
  /// What carries its characters.
  package struct Line {
    /// Whether all of it was taken.
    let send: (String) -> Bool
    /// What has come, within so many milliseconds: empty if nothing has, nil if nothing will.
    let receive: (Int) -> [UInt8]?
    /// The process whose line it is.
    var process: ChildProcess?

    package init(send: @escaping (String) -> Bool, receive: @escaping (Int) -> [UInt8]?) {
      self.send = send
      self.receive = receive
    }
  }

  private let line: Line
  private let isCancelled: () -> Bool
  private var buffer: [UInt8] = []

  /// What came of a request, and when: the question was sent, vCPU 0 had answered, all had.
  package struct Reply {
    package let began: Moment
    package let first: Moment
    package let all: Moment
    package let answer: GuestAnswer
  }

  package init(_ line: Line, isCancelled: @escaping () -> Bool) {
    self.line = line
    self.isCancelled = isCancelled
  }

  convenience init(
    of process: ChildProcess, send: @escaping (String) -> Bool,
    receive: @escaping (Int) -> [UInt8]?, isCancelled: @escaping () -> Bool
  ) {
    var line = Line(send: send, receive: receive)
    line.process = process
    self.init(line, isCancelled: isCancelled)
  }

  static let hello = "kvmclock guest 1"

  /// Waits for the guest's first words. What stood before them, a firmware's perhaps, is dropped.
  ///
  /// - Parameter again: whether to ask for them again, ever more seldom, where nothing or only their end has come: VMMs lose
  ///   what a guest says to a socket to which nobody has connected yet. After a reset the guest of before might hear it.
  package func awaitHello(milliseconds: Int, again: Bool = false) throws(VMMError) {
    let end = Stream.now + milliseconds
    var patience = 200
    var next = Stream.now + patience
    let hello = Array((Self.hello + "\n.\n").utf8)
    while true {
      if let at = buffer.indices.first(where: { buffer[$0...].starts(with: hello) }) {
        buffer.removeFirst(at + hello.count)
        return
      }
      guard Stream.now < end || isCancelled() else {
        throw .noGuest(
          milliseconds: milliseconds, com1: lastWords, said: line.process?.said ?? "")
      }
      if again, Stream.now >= next, hello.suffix(buffer.count).elementsEqual(buffer) {
        say("h")
        patience *= 2
        next = Stream.now + patience
      }
      try read(until: end, "the guest's first line", milliseconds)
    }
  }

  package func ask(_ request: Character, milliseconds: Int = 20_000) throws(VMMError) -> Reply {
    let end = Stream.now + milliseconds
    buffer = []
    let began = Moment.before()
    guard line.send(String(request)) else { throw closed }
    try read(through: "=", end, milliseconds)
    let first = Moment.after()
    try read(through: "+", end, milliseconds)
    let all = Moment.after()
    while !buffer.suffix(3).elementsEqual(Array("\n.\n".utf8)) {
      try readAnswer(until: end, "the end of the answer to '\(request)'", milliseconds)
    }
    let lines = String(decoding: buffer.dropLast(3), as: UTF8.self).split(separator: "\n")
    return Reply(
      began: began, first: first, all: all, answer: try GuestAnswer(lines: lines.map(String.init)))
  }

  /// Only sends; the machine is to be reset by it.
  package func say(_ request: Character) { _ = line.send(String(request)) }

  private func read(through mark: Character, _ end: Int, _ milliseconds: Int) throws(VMMError) {
    while true {
      if let at = buffer.firstIndex(of: mark.asciiValue!) {
        buffer.removeFirst(at + 1)
        return
      }
      try readAnswer(until: end, "the guest's '\(mark)'", milliseconds)
    }
  }

  /// - Throws: `VMMError.badAnswer` with the line in which the guest tells of an exception that it did not expect.
  private func readAnswer(
    until end: Int, _ what: String, _ milliseconds: Int
  ) throws(VMMError) {
    try read(until: end, what, milliseconds)
    guard let at = buffer.firstIndex(of: UInt8(ascii: "!")) else { return }
    while !buffer[at...].contains(UInt8(ascii: "\n")) {
      try read(until: end, "the end of the guest's line about an exception", milliseconds)
    }
    throw .badAnswer(String(decoding: buffer[at...].prefix { $0 != 10 }, as: UTF8.self))
  }

  private func read(until end: Int, _ what: String, _ milliseconds: Int) throws(VMMError) {
    if isCancelled() { throw .cancelled }
    let left = end - Stream.now
    guard left > 0 else { throw .timedOut(what: what, milliseconds: milliseconds) }
    guard let bytes = line.receive(min(left, 100)) else {
      throw closed
    }
    buffer += bytes
    if buffer.count > 1 << 20 { throw .badAnswer("more than 1 MiB without an end") }
  }

  /// The last three lines that came on COM1 and were no answer.
  private var lastWords: String {
    String(decoding: buffer.suffix(400), as: UTF8.self)
      .split(whereSeparator: \.isNewline).suffix(3).joined(separator: " / ")
  }

  /// What the VMM's process says of it; else what came last.
  private var closed: VMMError {
    let last = lastWords
    guard let process = line.process, process.ends(within: 1000) else {
      return .ended(how: "COM1 was closed", said: last)
    }
    let said = [process.said, last].filter { !$0.isEmpty }.joined(separator: " / ")
    return .ended(how: process.ending ?? "", said: said)
  }
}
