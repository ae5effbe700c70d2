internal import FoundationEssentials

/// A table as JSON: the names are those of its Swift type.
public enum TableJSON {
  public static func text(_ table: some Encodable & Sendable) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]
    guard let data = try? encoder.encode(table) else {
      preconditionFailure("a table holds nothing that JSON has no word for")
    }
    return String(decoding: data, as: UTF8.self) + "\n"
  }
}
