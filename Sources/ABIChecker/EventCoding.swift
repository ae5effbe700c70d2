// An event is one line: {"n":7,"by":"vcpu0","tsc":[…,…],"raw":[…,…],"did":{"wroteMSR":{…}}}

extension Actor: Codable {
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    let text = try container.decode(String.self)
    if text == "host" {
      self = .host
    } else if text.hasPrefix("vcpu"), let number = Int(text.dropFirst(4)), number >= 0,
      text == "vcpu\(number)"
    {
      self = .vcpu(number)
    } else {
      throw DecodingError.dataCorruptedError(
        in: container, debugDescription: "an actor is \"host\" or \"vcpu<n>\", not \"\(text)\"")
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

extension Actor: CustomStringConvertible {
  public var description: String {
    switch self {
    case .host: "host"
    case .vcpu(let number): "vcpu\(number)"
    }
  }
}

extension Event: Codable {
  private enum Key: String, CodingKey {
    case number = "n"
    case actor = "by"
    case tsc, raw
    case action = "did"
    case machine = "vm"
  }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    let tsc = try container.decode([UInt64].self, forKey: .tsc)
    let raw = try container.decode([UInt64].self, forKey: .raw)
    guard tsc.count == 2, raw.count == 2, tsc[0] <= tsc[1], raw[0] <= raw[1] else {
      throw DecodingError.dataCorruptedError(
        forKey: .tsc, in: container,
        debugDescription: "tsc and raw are each two numbers, the earlier one first")
    }
    self.init(
      number: try container.decode(Int.self, forKey: .number),
      actor: try container.decode(Actor.self, forKey: .actor),
      began: Instant(tsc: tsc[0], raw: raw[0]),
      ended: Instant(tsc: tsc[1], raw: raw[1]),
      action: try container.decode(Action.self, forKey: .action),
      machine: try container.decodeIfPresent(Int.self, forKey: .machine))
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    try container.encode(number, forKey: .number)
    try container.encode(actor, forKey: .actor)
    try container.encode([began.tsc, ended.tsc], forKey: .tsc)
    try container.encode([began.raw, ended.raw], forKey: .raw)
    try container.encode(action, forKey: .action)
    try container.encodeIfPresent(machine, forKey: .machine)
  }
}

// Values without a label of their own. Formats before 7 named them all `_0`.
extension Action {
  enum GetClockCodingKeys: String, CodingKey { case _0 = "value" }
  enum SetClockCodingKeys: String, CodingKey { case _0 = "value" }
  enum SetClockRefusedCodingKeys: String, CodingKey {
    case _0 = "value"
    case error
  }
  enum ClockCallsCodingKeys: String, CodingKey { case _0 = "value" }
  enum XenUnstableSetCodingKeys: String, CodingKey { case _0 = "value" }

  /// The line of an event of a format before 7 with the names that these values have since.
  package static func renewed(_ line: [UInt8]) -> [UInt8] {
    let (old, new) = (Array(#""_0":"#.utf8), Array(#""value":"#.utf8))
    guard line.contains(where: { $0 == UInt8(ascii: "_") }) else { return line }
    var renewed: [UInt8] = []
    renewed.reserveCapacity(line.count)
    var rest = line[...]
    while let byte = rest.first {
      if byte == old[0], rest.starts(with: old) {
        renewed += new
        rest = rest.dropFirst(old.count)
      } else {
        renewed.append(byte)
        rest = rest.dropFirst()
      }
    }
    return renewed
  }
}

extension Event {
  /// The event as an encoder with sorted keys writes it, from its action as such an encoder wrote it: of the time that
  /// whole events take, half goes into these few numbers.
  package func line(did action: [UInt8]) -> [UInt8] {
    Array(#"{"by":"\#(actor)","did":"#.utf8) + action
      + Array(
        #","n":\#(number),"raw":[\#(began.raw),\#(ended.raw)],"tsc":[\#(began.tsc),\#(ended.tsc)]"#
          .utf8) + Array((machine.map { #","vm":\#($0)}"# } ?? "}").utf8)
  }
}
