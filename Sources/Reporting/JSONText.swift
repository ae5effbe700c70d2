internal import FoundationEssentials

/// Values as JSON, always in the same order: the names are those of their Swift types.
public enum JSONText {
  /// On many lines, for a file of its own.
  public static func pretty(_ value: some Encodable) -> String {
    text(value, [.sortedKeys, .withoutEscapingSlashes, .prettyPrinted]) + "\n"
  }

  /// On one line, without its end.
  static func line(_ value: some Encodable) -> String {
    text(value, [.sortedKeys, .withoutEscapingSlashes])
  }

  private static func text(
    _ value: some Encodable, _ formatting: JSONEncoder.OutputFormatting
  ) -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = formatting
    // All that is written consists of integers, strings, lists and objects.
    guard let data = try? encoder.encode(value) else {
      preconditionFailure("a value that JSON cannot hold")
    }
    return String(decoding: data, as: UTF8.self)
  }
}
