import Foundation
import Testing

/// `--output FILE`: which formats, where they go, and what happens where they can't.
@Suite struct OutputTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  /// A script that leaves a history in `h`, in which the version of a record is odd once.
  private func script(_ rest: String) throws -> Child {
    try folder.writeHistory("h", versions: [2, 3, 4])
    return try Child(rest, in: folder)
  }

  @Test func oneRunWritesSeveralFormats() throws {
    let child = try script(
      """
      "$K" check h --output a.json --output b.ktap --output ./c.txt >d; code=$?
      cmp c.txt d; ls; exit $code
      """
    )
    child.expect(1)
    #expect(child.output == "a.json\nb.ktap\nc.txt\nd\nh\n")
    #expect(try folder.read("a.json").contains("\"format\" : \"kvmclock-report\""))
    #expect(try folder.read("b.ktap").hasPrefix("KTAP version 1\n"))
  }

  @Test func theSameReportGoesToStdout() throws {
    let child = try script("\"$K\" check h --format json --output a.json >b; cmp a.json b")
    child.expect(0)
  }

  @Test(
    arguments: [
      ("report.pdf", "'report.pdf' has an ending that names no format"), ("report", "'report' has"),
      ("''", "'' has an ending"), (".json", "'.json' has an ending"),
    ], ["check h", "run"])
  func anEndingThatNamesNoFormatIsAWrongCommandLine(
    path: (String, String), command: String
  ) throws {
    let child = try script("exec \"$K\" \(command) --output \(path.0)")
    child.expect(64, path.1)
    child.expect(64, "Let it end in .txt, .ktap, .xml, .json, .jsonl, .md or .html.")
    #expect(child.output == "")
  }

  @Test(arguments: [
    ("none/a.json", "none/a.json: cannot write a file there: No such file or directory; create"),
    ("h/a.json", "h/a.json: cannot write a file there: Not a directory"),
    ("folder.json", "folder.json: cannot write a file there: Is a directory; name a file in it"),
  ])
  func aFileThatCannotBeWrittenCostsNoOther(path: String, complaint: String) throws {
    try FileManager.default.createDirectory(
      atPath: "\(folder.path)/folder.json", withIntermediateDirectories: false)
    let child = try script(
      """
      sed -i '2,$s/"version":3/"version":4/' h
      exec "$K" check h --output \(path) --output b.json
      """)
    child.expect(74, complaint)
    #expect(try folder.read("b.json").contains("\"exitStatus\" : 0"))
    #expect(child.output.contains("VERSION-EVEN"))
  }

  @Test(.enabled(if: Host.isRoot, "only root can mount a small file system"))
  func aFullDiskCostsNoOtherAndLeavesWhatWasThere() throws {
    let child = try script(
      """
      mkdir small
      exec unshare --mount sh -c 'mount -t tmpfs -o size=8k none small &&
        echo before >small/a.json && head -c 4096 /dev/zero >small/filler &&
        "$K" check h --output small/a.json --output b.json; code=$?
        cat small/a.json; ls -A small; exit $code'
      """)
    child.expect(1, "small/a.json: cannot write: No space left on device; free some space")
    #expect(child.output.hasSuffix("before\na.json\nfiller\n"))
    #expect(try folder.read("b.json").contains("\"exitStatus\" : 1"))
  }

  @Test(
    .enabled(if: Host.hasKVM, Host.reason),
    arguments: ["none/a.json", "h/a.json", "/sys/a.json"])
  func aRunDoesNotBeginIfItsReportCannotBeWritten(path: String) throws {
    let child = try script("exec \"$K\" run MSR-INDEX-LIST --output b.json --output \(path)")
    child.expect(74, "\(path): cannot write a file there: ")
    #expect(child.output == "")
    #expect(!folder.names.contains("b.json"))
  }

  @Test(.enabled(if: Host.hasKVM, Host.reason))
  func aReaderOfStdoutWhoLeavesEarlyCostsNoFile() throws {
    let child = try script(
      """
      mkfifo pipe; exec 3<>pipe; exec 4>pipe; exec 3<&-
      "$K" run MSR-INDEX-LIST --output a.json >&4
      """)
    child.expect(141)
    #expect(try folder.read("a.json").contains("\"rule\" : \"MSR-INDEX-LIST\""))
  }

  @Test func whatIsNoTableIsNotIncluded() throws {
    let child = try script("exec \"$K\" check h --include h --output a.json")
    child.expect(
      65, "kvmclock: h: not a table of policies or faults; write one with `policies --output`")
    #expect(!folder.names.contains("a.json"))
  }

  @Test func aFormatForOneHostTakesNoTwo() throws {
    try folder.writeHistory("old", versions: [2, 4], kernel: "5.10.0")
    let child = try script("exec \"$K\" check h old --output a.json")
    child.expect(64, "histories of 2 hosts, and a file of this format holds one")
    #expect(!folder.names.contains("a.json"))
  }
}

/// What is written is what docs/report.schema.json describes.
@Suite(.enabled(if: Schema.obstacle == nil, Schema.reason))
struct SchemaTests {
  let folder: Folder

  init() throws { folder = try Folder() }

  @Test func whatCheckWritesIsValid() throws {
    try folder.writeHistory("h", versions: [2, 3, 4])
    let child = try Child("\"$K\" check h --format json \(Schema.validate())", in: folder)
    child.expect(0)
  }

  @Test(.enabled(if: Host.hasKVM, Host.reason), arguments: ["", "--topic wall --strict --seed 7"])
  func whatARunWritesIsValid(options: String) throws {
    let child = try Child("\"$K\" run \(options) --format json \(Schema.validate())", in: folder)
    child.expect(0)
  }

  @Test(arguments: [
    (#""verdict" : "broken""#, #""verdict" : "fine""#), (#""version" : 1"#, #""version" : 2"#),
    (#""seed" : 9"#, #""seed" : -9"#), (#""rule" : "VERSION-EVEN","#, ""),
    (#""strict" : false"#, #""strict" : false, "undescribed" : 1"#),
  ])
  func theSchemaRefusesWhatIsWrong(right: String, wrong: String) throws {
    try folder.writeHistory("h", versions: [2, 3, 4])
    try Child("\"$K\" check h --format json >a", in: folder).expect(1)
    let text = try folder.read("a")
    #expect(text.contains(right))
    try folder.write(text.replacingOccurrences(of: right, with: wrong), to: "b")
    try Child("cat b \(Schema.validate())", in: folder).expect(1)
  }
}

/// Python's jsonschema, where it is installed.
enum Schema {
  private static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../docs").standardizedFileURL.path

  /// A filter that fails where its input is not what the schema describes, or has a key that it does not name.
  static func validate(_ schema: String = "report.schema.json") -> String {
    """
    | python3 -c '
    import json, jsonschema, sys
    schema = json.load(open(sys.argv[1]))
    jsonschema.Draft202012Validator.check_schema(schema)
    for part in [schema, *schema["$defs"].values()]:
        if "properties" in part: part["additionalProperties"] = False
    try: jsonschema.Draft202012Validator(schema).validate(json.load(sys.stdin))
    except jsonschema.ValidationError as error: sys.exit(1)
    ' '\(folder)/\(schema)'
    """
  }

  static let obstacle: String? = {
    do {
      let child = try Child("exec python3 -c 'import jsonschema'", in: Folder())
      return child.code == 0 ? nil : "python3 has no jsonschema: apt-get install python3-jsonschema"
    } catch {
      return "\(error)"
    }
  }()

  static let reason = Comment(rawValue: obstacle ?? "")
}
