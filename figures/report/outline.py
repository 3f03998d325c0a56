"""The report's skeleton: headings in the hand-out's order, with the questions that a student answers."""
from typing import NamedTuple


class Section(NamedTuple):
    """`content` names the figures and tables in it (figures.report.content); what is not there is left out."""

    heading: str
    questions: str = ""
    content: tuple[str, ...] = ()


OUTLINE = (
    Section("## The data", "What is easy and what is hard about these images? Which classes are rare, and what "
            "follows for the loss and for the mean over the classes? What must the augmentation leave alone?",
            ("data_images", "data_frequencies", "data_shares", "augmentations")),
    Section("## Task 1: U-Net"),
    Section("### Architecture", "How is the network built, block by block? What do the skip connections carry, and "
            "what would be lost without them? Where do the parameters and the work sit?",
            ("architecture_task1", "layers_task1")),
    Section("### Improvements", "What did you change, in which order, and why? What did each change bring, and how "
            "do you know that it was this change and not chance?", ("runs_task1", "steps_task1")),
    Section("### Pros and cons", "Which classes and which kinds of image does the network get right, which wrong? "
            "What do its worst images have in common? What does it cost?", ("panels_task1", "iou_task1")),
    Section("### Accuracy", "Which mIoU and which accuracy does the network reach, and why do the two differ? Which "
            "classes are confused with which?", ("confusion_task1", "ious_task1", "measures_task1")),
    Section("### Loss", "Which loss did you train with, and what is its weakness on rare classes? What did you try "
            "against that, and what happened to each class?", ("curves_task1",)),
    Section("### Optimizer", "Which optimizer, learning rate and schedule, and how did you find them? How would one "
            "see in the curves that the learning rate is too high, or too low?", ("settings_task1",)),
    Section("### Over-fitting", "How far are training and validation apart, from which epoch on? What did you do "
            "against it, and what did that bring?", ("overfitting_task1",)),
    Section("## Task 2: low complexity"),
    Section("### Methods", "Which methods make the network cheap? Explain each with its paper, and say what it saves.",
            ("architecture_task2", "layers_task2", "costs")),
    Section("### Why", "Why these methods, and why do they cost so little accuracy? Which did you leave out, and why? "
            "Where is the network worse than the U-Net?",
            ("cost_accuracy", "iou_models", "panels", "errors", "ious_task2", "measures_task2")),
    Section("### How", "How did you get there, step by step? What did each step bring in MACs, KB and mIoU? How did "
            "you train, and what against over-fitting?",
            ("runs_task2", "curves_task2", "steps_task2", "settings_task2", "overfitting_task2", "iou_task2",
             "confusion_task2")),
    Section("## Runs that tell no task", "", ("runs_other", "curves_other", "steps_other", "settings_other",
                                              "overfitting_other", "iou_other", "ious_other")),
)

HEAD = """# Report

*Name, student number.*

*This skeleton was made by `python -m figures.report` of what was really run. The questions in italics are yours: write
the answer in their place, and delete the figures that you say nothing about. Every figure is there as PNG and, for
print, as SVG. Calling the command again renews the figures; a report.md that you have changed is kept.*
"""


def write_outline(content: dict[str, str], notes: list[str]) -> str:
    """The Markdown of the whole report: `content` holds the text of figures and tables, `notes` what is left out."""
    parts = [HEAD]
    if notes:
        parts.append("**Left out**\n\n" + "\n".join(f"- {note}" for note in notes) + "\n")
    for section in OUTLINE:
        inside = [content[key] for key in section.content if key in content]
        if section.content and not inside and not section.questions:
            continue
        parts.append(section.heading + "\n")
        if section.questions:
            parts.append(f"*{section.questions}*\n")
        parts += [f"{text}\n" for text in inside]
    return "\n".join(parts)
