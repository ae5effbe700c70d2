internal import ABIChecker
internal import FoundationEssentials

/// Any value of JSON.
enum JSONValue: Decodable, Hashable {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let value = try? container.decode(Bool.self) {
      self = .bool(value)
    } else if let value = try? container.decode(Double.self) {
      self = .number(value)
    } else if let value = try? container.decode(String.self) {
      self = .string(value)
    } else if let value = try? container.decode([JSONValue].self) {
      self = .array(value)
    } else {
      self = .object(try container.decode([String: JSONValue].self))
    }
  }

  subscript(_ key: String) -> JSONValue? {
    if case .object(let members) = self { members[key] } else { nil }
  }

  var string: String? { if case .string(let text) = self { text } else { nil } }
  var array: [JSONValue]? { if case .array(let values) = self { values } else { nil } }

  /// As JSON, for a command.
  var text: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .number(let value): Int(exactly: value).map(String.init) ?? "\(value)"
    case .string(let text): Self.quoted(text)
    case .array(let values): "[" + values.map(\.text).joined(separator: ",") + "]"
    case .object(let members):
      "{"
        + members.sorted { $0.key < $1.key }.map { "\(Self.quoted($0.key)):\($0.value.text)" }
        .joined(separator: ",") + "}"
    }
  }

  private static func quoted(_ text: String) -> String {
    let escaped = text.unicodeScalars.map { scalar in
      scalar == "\"" || scalar == "\\"
        ? "\\\(scalar)"
        : scalar.value < 0x20
          ? "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
          : String(scalar)
    }
    return "\"" + escaped.joined() + "\""
  }
}

/// QEMU's machine protocol (docs/interop/qmp-spec).
final class QMP {
  /// A command was refused.
  struct Refusal: Error { var reason: String }

  private let stream: Stream
  private let process: ChildProcess
  private var buffer: [UInt8] = []
  private(set) var events: [String] = []
  private(set) var greeting = JSONValue.null

  init(_ path: String, _ process: ChildProcess, milliseconds: Int) throws(VMMError) {
    self.process = process
    stream = try Stream(path: path, milliseconds: milliseconds, isAlive: process.requireAlive)
    greeting = try message(within: milliseconds)
    _ = try ask("qmp_capabilities")
  }

  /// - Throws: `VMMError.refused` with QEMU's words.
  func ask(
    _ command: String, _ arguments: [String: JSONValue] = [:], for verb: VMMVerb = .start
  ) throws(VMMError) -> JSONValue {
    let line = JSONValue.object(["execute": .string(command), "arguments": .object(arguments)]).text
    guard stream.send(line + "\n") else { throw lost }
    while true {
      let answer = try message(within: 60_000)
      if let event = answer["event"]?.string { events.append(event) }
      if let error = answer["error"] {
        throw .refused(verb: verb, reason: "\(command): \(error["desc"]?.string ?? error.text)")
      }
      if let value = answer["return"] { return value }
    }
  }

  /// Waits for an event that has not been asked for before.
  func await(event: String, milliseconds: Int) throws(VMMError) {
    let end = Stream.now + milliseconds
    while !events.contains(event) {
      let answer = try message(within: max(1, end - Stream.now))
      if let event = answer["event"]?.string { events.append(event) }
    }
    events.removeAll { $0 == event }
  }

  private var lost: VMMError {
    _ = process.ends(within: 1000)
    return .ended(how: process.ending ?? "it closed its monitor", said: process.said)
  }

  private func message(within milliseconds: Int) throws(VMMError) -> JSONValue {
    let end = Stream.now + milliseconds
    while true {
      if let at = buffer.firstIndex(of: 10) {
        let line = Data(buffer[..<at])
        buffer.removeFirst(at + 1)
        guard let value = try? JSONDecoder().decode(JSONValue.self, from: line) else {
          throw .badAnswer(String(decoding: line, as: UTF8.self))
        }
        return value
      }
      guard Stream.now < end else {
        throw .timedOut(what: "an answer of QEMU's monitor", milliseconds: milliseconds)
      }
      guard let bytes = stream.receive(within: end - Stream.now) else { throw lost }
      buffer += bytes
    }
  }
}
