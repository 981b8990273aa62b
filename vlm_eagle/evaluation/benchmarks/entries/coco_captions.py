"""COCO captions: images of the 2014 validation split, with the request that MMSpec makes of them.

Read from lmms-lab's form (the image embedded; its `question` is not asked, so that all forms give the same prompt),
from COCO's own `captions_val2014.json` with `val2014/` beside `annotations/`, or from Karpathy's split.
"""

from ..entry import Entry, Question, Row

REQUEST = "Describe this image in detail."  # MMSpec's


def _question(row: Row) -> Question:
    names = ("image", "file_name", "filename")
    folders = ("val2014", "val2017", "train2014", "train2017", "test2014", "test2017")
    id_ = next((row.values[name] for name in ("file_name", "filename", "question_id", "id") if row.has(name)), None)
    return row.ask(row.picture(*names, within=folders), REQUEST, id=id_)


ENTRIES = (
    Entry(
        name="coco-captions",
        hub="lmms-lab/COCO-Caption",
        split="val",
        local=("annotations/captions_val*.json", "captions_val*.json"),
        tables={"captions_*.json": "images"},
        schema="image, or file_name of an image beside; id",
        question=_question,
        size=40_504,
        count=500,
        max_new_tokens=512,
        modality="image",
        licence="CC BY 4.0 (annotations)",
        citation="Lin et al. 2014, arXiv:1405.0312; Chen et al. 2015, arXiv:1504.00325",
    ),
)
