/// An error of KVM, or of another of the host's interfaces, by its name in C: "EINVAL".
public struct Errno: Hashable, Sendable, Codable, ExpressibleByStringLiteral,
  CustomStringConvertible
{
  public let description: String

  public init(_ name: String) { description = name }
  public init(stringLiteral name: String) { description = name }

  /// No error.
  public static let none = Self("success")
  public static let invalidArgument = Self("EINVAL")

  public var isError: Bool { self != .none }

  /// Reads a name, and what format 2 had besides: a number, and the C library's text for EINVAL.
  public init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let number = try? container.decode(Int32.self) {
      self = number == 0 ? .none : number == 22 ? .invalidArgument : Self("E\(number)")
    } else {
      let text = try container.decode(String.self)
      self = text == "Invalid argument" ? .invalidArgument : Self(text)
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}

/// How a vCPU was reset. Saved as "INIT from vcpu1" or "user space".
public enum Reset: Hashable, Sendable, Codable, CustomStringConvertible {
  /// Another vCPU sent it INIT through its local APIC.
  case initialized(by: Int)
  /// User space wrote 0 to the system-time MSR and reset the registers.
  case userSpace

  public var description: String {
    switch self {
    case .initialized(let sender): "INIT from vcpu\(sender)"
    case .userSpace: "user space"
    }
  }

  var isINIT: Bool { self != .userSpace }

  public init(from decoder: any Decoder) throws {
    let text = try decoder.singleValueContainer().decode(String.self)
    let prefix = "INIT from vcpu"
    let sender = text.hasPrefix(prefix) ? Int(text.dropFirst(prefix.count)) : nil
    self = sender.map { .initialized(by: $0) } ?? .userSpace
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
